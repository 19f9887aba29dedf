"""INS: soft labels and prototypes by hand, the gate, gradients, bags, the csv."""

import csv

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.distill.contrastive import sup_con
from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.ins import bag_loss, moved, moved_prototypes
from pld_mmdet.weak_supervision.mil import InstanceBags, MILMetric
from tests.toy_run import ROOT, enter, toy_config, train


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/ins/toy.py").model
    cfg.update(changes)
    return MODELS.build(cfg)


def batch(n=6):
    label = torch.tensor([0, 1, 1, 0, 1, 1])[:n]
    return dict(
        inputs=torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        bag_label=label,
        bag=torch.tensor([3, 0, 0, 3, 1, 1])[:n],
        index=torch.tensor([60, 0, 5, 61, 18, 20])[:n],
        targets=torch.zeros(n, dtype=torch.long),
    )


def ready(stage="prototypes", **changes):
    model = build(**changes)
    model.taught.fill_(True)
    enter(model, stage)
    model.progress.steps = 10
    return model


def test_soft_labels_by_hand():
    """Three looks that name class 1, with phi .95, .9, .875."""
    rows, positive = torch.tensor([[0.5, 0.5]]), torch.tensor([True])
    named = torch.tensor([1])
    once = moved(rows, named, 0.95, positive)
    assert once[0].tolist() == pytest.approx([0.475, 0.525])
    twice = moved(once, named, 0.95, positive)
    assert twice[0].tolist() == pytest.approx([0.45125, 0.54875])
    for phi in (0.95, 0.9, 0.875):
        rows = moved(rows, named, phi, positive)
    assert rows[0].tolist() == pytest.approx([0.374063, 0.625938], abs=1e-6)
    # In a negative bag nothing is open.
    fixed = moved(rows, named, 0.5, torch.tensor([False]))
    assert fixed.tolist() == [[1.0, 0.0]]
    assert moved(rows[:0], named[:0], 0.9, positive[:0]).shape == (0, 2)


def test_contrast_by_hand():
    """q = (1, 0); keys (1, 1) / sqrt 2, (0, 1), (-1, 0), the first two positive."""
    q = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    same = torch.tensor([[True, True, False]])
    wanted = pytest.approx(5.050804, abs=1e-5)
    assert sup_con(q, keys, same, 0.07).item() == wanted
    # The anchor itself in the bank is left out of both sums.
    bank, own = torch.cat([q, keys]), torch.tensor([[True, False, False, False]])
    both = torch.tensor([[True, True, True, False]])
    assert sup_con(q, bank, both, 0.07, own=own).item() == wanted
    assert sup_con(q, bank, both, 0.07).item() != wanted


def test_prototypes_move_row_by_row():
    """As one average after the other, in the order of the batch."""
    dice = torch.Generator().manual_seed(3)
    features = F.normalize(torch.randn(7, 4, generator=dice), dim=1)
    classes = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    start = F.normalize(torch.randn(2, 4, generator=dice), dim=1)
    wanted = start.clone()
    for row, c in zip(features, classes.tolist(), strict=True):
        wanted[c] = 0.9 * wanted[c] + 0.1 * row
    found = moved_prototypes(start, features, classes, 0.9)
    assert torch.allclose(found, F.normalize(wanted, dim=1), atol=1e-6)
    nobody = moved_prototypes(start, features[:0], classes[:0], 0.9)
    assert torch.allclose(nobody, start, atol=1e-6)


def test_negative_bags_stay_certain_and_phi_falls():
    model = ready(phi=(0.9, 0.5))
    data = batch()
    before = model.prototypes.clone()
    model.loss(**data)
    rows = model.soft.rows[data["index"]]
    assert rows[data["bag_label"] == 0].tolist() == [[1.0, 0.0]] * 2
    moves = (rows[data["bag_label"] == 1] - 0.5).abs()
    assert torch.allclose(moves, torch.full_like(moves, 0.05))  # (1 - .9) / 2
    assert not torch.equal(model.prototypes, before)
    # Nobody was taken for class 1: its prototype is still 0.
    assert model.prototypes.norm(dim=1).tolist() == pytest.approx([1, 0], abs=1e-5)
    model.progress.step = 5  # half-way: phi is .7
    model.soft.rows.fill_(0.5)
    model.loss(**data)
    moves = (model.soft.rows[data["index"]][data["bag_label"] == 1] - 0.5).abs()
    assert torch.allclose(moves, torch.full_like(moves, 0.15))


def test_warm_up_leaves_soft_labels_alone():
    model = ready("warmup")
    data = batch()
    losses = model.loss(**data)
    assert set(model.soft.rows.flatten().tolist()) == {0.5}
    logits = model.outputs(data["inputs"])
    model.eval()
    # A queue without rows: the own key is the only choice.
    assert losses["loss_cont"].item() == 0
    assert len(model.queue) == 6
    assert model.loss(**data)["loss_cont"].item() > 0
    target = torch.where(
        data["bag_label"][:, None] > 0,
        torch.tensor([0.5, 0.5]),
        torch.tensor([1.0, 0.0]),
    )
    logits = model.outputs(data["inputs"])
    wanted = -(target * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(model.loss(**data)["loss_cls"], wanted)


def test_gradients_reach_the_encoder_alone_and_keys_follow():
    model = ready(weight=2.0, key_keep=0.5, bag_weight=1.0)
    data = batch()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.1)
    old = model.key.network.network.fc.bias.clone()
    losses = model.loss(**data)
    assert losses.keys() == {"loss_cls", "loss_cont", "loss_bag"}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.key.parameters())
    assert model.encoder.project[2].weight.grad.abs().sum() > 0
    assert torch.allclose(model.key.network.network.fc.bias, old + 0.05, atol=1e-6)
    # Its batch norm keeps no trace of the batch.
    norms = [m for m in model.key.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(not norm.running_mean.any() for norm in norms)


def test_bag_loss_by_hand():
    """Bags of (.8, .4) and (.1): means .6 and .1, labels 1 and 0."""
    p = torch.tensor([0.8, 0.1, 0.4])
    logits = torch.stack([torch.zeros(3), (p / (1 - p)).log()], 1)
    bag, label = torch.tensor([7, 2, 7]), torch.tensor([1, 0, 1])
    wanted = -(torch.tensor([0.6, 0.9]).log().mean())
    assert bag_loss(logits, bag, label).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_bag_labels_come_first(tmp_path):
    """Without them the positives' prototype has no direction, and nothing warns."""
    model = build()
    for stage in ("warmup", "prototypes"):
        with pytest.raises(UserError, match=f"`{stage}` comes before `bag_labels`"):
            model.start_stage(stage, None, tmp_path)
    enter(model, "bag_labels")
    data = batch()
    loss = model.loss(**data)["loss_cls"]
    model.train()
    logits = model.outputs(data["inputs"])
    assert torch.allclose(loss, F.cross_entropy(logits, data["bag_label"]))
    model.start_stage("prototypes", None, tmp_path)
    with pytest.raises(UserError, match="`scores` has no work_dataloader"):
        model.start_stage("scores", None, tmp_path)
    with pytest.raises(UserError, match="view"):
        build(view="upside down")


def test_bags_hold_what_they_say():
    digits = dict(type="pld_mmdet.Digits", part="val", classes=[4, 9])
    made = dict(dataset=digits, positive=[1], bags=4, size=10, share=0.2, seed=5)
    data = InstanceBags(**made)
    assert data.hidden.sum(1).tolist() == [2, 2, 0, 0]
    assert len(data.members.flatten().unique()) == 40
    assert len(data) == 40
    sample = data[13]
    assert (sample["bag"], sample["index"], int(sample["bag_label"])) == (1, 13, 1)
    whole = InstanceBags(**made, whole=True)
    assert len(whole) == 4
    assert whole[1]["inputs"].shape == (10, 1, 8, 8)
    assert torch.equal(whole[1]["inputs"][3], sample["inputs"])
    first = InstanceBags(**made, positive_only=True)
    assert len(first) == 20
    assert first[13]["index"] == 13
    with pytest.raises(UserError, match="400 bags of 10 want 400 positive"):
        InstanceBags(digits, [1], bags=400, size=10, share=0.2)
    assert len(InstanceBags(digits, [1], bags=100, size=10, replace=True)) == 1000


def test_metric_by_hand():
    """Instances: .9 .2 | .6 .3, hidden 1 0 | 0 0; means .55 and .45."""
    p = torch.tensor([0.9, 0.2, 0.6, 0.3])
    logits = torch.stack([torch.zeros(4), (p / (1 - p)).log()], 1)
    sample = dict(
        logits=logits,
        targets=torch.tensor([1, 0, 0, 0]),
        bag=torch.tensor([4, 4, 9, 9]),
        bag_label=torch.tensor([1, 1, 0, 0]),
        prototype_score=torch.tensor([0.5, 0.6, 0.4, 0.3]),
    )
    metric = MILMetric()
    metric.process({}, [sample])
    found = metric.compute_metrics(metric.results)
    assert found["auc"] == pytest.approx(100)
    assert found["bag_auc"] == pytest.approx(100)
    assert found["prototype_auc"] == pytest.approx(200 / 3)


def test_a_short_run_writes_scores(tmp_path):
    options = [f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1, 2)]
    model = train(toy_config("configs/ins/toy.py", tmp_path, *options)).model
    (path,) = tmp_path.glob("stages/*_scores/scores.csv")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * 18
    assert [int(row["instance"]) for row in rows] == list(range(24 * 18))
    written = torch.tensor([float(row["soft_label"]) for row in rows])
    assert torch.allclose(written, model.soft.rows[:, 1], atol=1e-5)
    assert {row["bag_label"] for row in rows} == {"0", "1"}
    assert all(0 < float(row["score"]) < 1 for row in rows)
