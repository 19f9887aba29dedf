"""INS: soft labels and prototypes by hand, the gate, gradients, bags, the csv."""

import csv

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.distill.contrastive import sup_con
from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.data.mil import InstanceBags, MILMetric
from pld_mmdet.weak_supervision.ins import VIEWS, bag_loss, moved, moved_prototypes
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
    model = ready(weight=2.0, key_keep=0.25, bag_weight=1.0)
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
    assert torch.allclose(model.key.network.network.fc.bias, old + 0.075, atol=1e-6)
    # Its batch norm keeps no trace of the batch.
    norms = [m for m in model.key.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(not norm.running_mean.any() for norm in norms)


class Says(torch.nn.Module):
    """Fixed logits and vectors, whatever the images are."""

    def __init__(self, logits, q):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))
        self.q = torch.nn.Parameter(torch.tensor(q))

    def forward(self, x):
        return self.logits, self.q


KEYS = torch.tensor([[0.0, 1.0], [0.8, 0.6], [1.0, 0.0]])
OLD = torch.tensor([[0.0, -1.0], [-0.8, 0.6]])  # in the queue, of classes 1 and 0


def said(stage, **changes):
    """Three instances, the first of a negative bag, that would be 1, 0, 1.

    The prototypes name nothing, 1 and 0.
    """
    options = dict(
        width=2, weight=2.0, temperature=0.5, proto_keep=0.75, phi=(0.9, 0.5)
    )
    model = ready(stage, **options | changes)
    model.encoder = Says(
        [[-1.0, 1.0], [0.2, 0.0], [0.0, 0.5]], [[-1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
    )
    model._keys = lambda inputs: KEYS
    model.prototypes.copy_(torch.tensor([[0.8, 0.6], [-0.6, 0.8]]))
    model.queue.push(dict(key=OLD, label=torch.tensor([[1.0], [0.0]])))
    return model


def test_a_step_of_prototypes_by_hand():
    model, data = said("prototypes", bag_weight=0.25), batch(3)
    mu, q = model.prototypes.clone(), model.encoder.q.detach()
    found = model.loss(**data)
    classes = [0, 0, 1]
    rows = model.soft.rows[data["index"]]
    expected = torch.tensor([[1.0, 0.0], [0.45, 0.55], [0.55, 0.45]])
    assert torch.allclose(rows, expected, atol=1e-6)
    # softplus(2); .45 x .598139 + .55 x .798139; .55 x .974077 + .45 x .474077
    ce = (2.126928 + 0.708139 + 0.749077) / 3
    assert found["loss_cls"].item() == pytest.approx(ce, abs=1e-5)
    bank, named = torch.cat([q, KEYS, OLD]), [*classes, *classes, 1, 0]
    costs = []
    for i in range(3):
        rest = [j for j in range(8) if j != i]
        log_p = (bank[rest] @ q[i] / 0.5).log_softmax(0)
        same = [n for n, j in enumerate(rest) if named[j] == classes[i]]
        costs.append(-log_p[same].mean().item())
    assert found["loss_cont"].item() == pytest.approx(2 * sum(costs) / 3, abs=1e-5)
    bags = bag_loss(model.encoder.logits, data["bag"], data["bag_label"]).item()
    assert found["loss_bag"].item() == pytest.approx(0.25 * bags, abs=1e-6)
    for row, c in zip(q, classes, strict=True):
        mu[c] = 0.75 * mu[c] + 0.25 * row
    assert torch.allclose(model.prototypes, F.normalize(mu, dim=1), atol=1e-6)
    kept = model.queue.read()
    assert torch.equal(kept["key"], torch.cat([OLD, KEYS]))
    assert kept["label"].flatten().tolist() == [1, 0, 0, 0, 1]


def test_a_step_of_warm_up_by_hand():
    """The own key first, then the queue; positive bags are (.5, .5)."""
    model, data = said("warmup"), batch(3)
    q = model.encoder.q.detach()
    found = model.loss(**data)
    scores = torch.cat([(q * KEYS).sum(1, keepdim=True), q @ OLD.T], 1) / 0.5
    expected = 2 * -scores.log_softmax(1)[:, 0].mean().item()
    assert found["loss_cont"].item() == pytest.approx(expected, abs=1e-5)
    ce = (2.126928 + (0.598139 + 0.798139) / 2 + (0.974077 + 0.474077) / 2) / 3
    assert found["loss_cls"].item() == pytest.approx(ce, abs=1e-5)


def test_gradients_of_the_contrast_reach_all_queries():
    """A query is also in the bank of the others."""
    model = said("prototypes")
    model.loss(**batch(3))["loss_cont"].backward()
    own = model.encoder.q.grad
    q = model.encoder.q.detach().clone().requires_grad_()
    bank = torch.cat([q, KEYS, OLD])
    classes, named = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1, 0, 0, 1, 1, 0])
    same = classes[:, None] == named
    self_ = torch.eye(3, 8, dtype=torch.bool)
    (2 * sup_con(q, bank, same, 0.5, own=self_)).backward()
    assert torch.allclose(own, q.grad, atol=1e-6)


@pytest.mark.parametrize("stage", ["warmup", "prototypes"])
def test_queries_and_keys_have_their_own_views(stage, monkeypatch):
    """2 and 3 of mean .5 and deviation .25 are 6 and 10."""
    monkeypatch.setitem(VIEWS, "moved", lambda x: 0 * x + 2)
    monkeypatch.setitem(VIEWS, "crop", lambda x: 0 * x + 3)
    model = ready(stage, view="moved", key_view="crop", mean=0.5, std=0.25)
    seen = []
    for network in (model.encoder.network, model.key.network.network):
        network.backbone.register_forward_pre_hook(
            lambda _, args: seen.append(args[0].unique().tolist())
        )
    model.loss(**batch())
    assert seen == [[6.0], [10.0]]


def test_the_prototypes_answer_beside_the_classifier():
    model = said("prototypes")
    (found,) = model.predict(**batch(3))
    # of (0, 1): .8 - .6 towards the positives
    assert found["prototype_score"][1].item() == pytest.approx(0.549834, abs=1e-6)
    assert torch.equal(found["logits"], model.encoder.logits)
    assert found["bag"].tolist() == [3, 0, 0]


def test_the_rival_asks_for_the_largest_logit():
    """Margins (-1, 2, .5) of a positive bag and (-.5, -3, -1) of a negative one."""
    model = build()
    margins = torch.tensor([-1.0, 2.0, 0.5, -0.5, -3.0, -1.0])
    logits = torch.stack([torch.ones(6), 1 + margins], 1)
    model.encoder.forward = lambda x: (logits, None)
    bags = torch.rand(2, 3, 1, 8, 8)
    index = torch.arange(6).view(2, 3)
    found = model.loss_max_pooling(bags, torch.tensor([1, 0]), index)["loss_bag"]
    assert found.item() == pytest.approx((0.126928 + 0.474077) / 2, abs=1e-6)
    # the second bag has one instance, of -.5; what fills it up is not looked at
    model.encoder.forward = lambda x: (logits[: len(x)], None)
    index = torch.tensor([[0, 1, 2], [3, -1, -1]])
    found = model.loss_max_pooling(bags, torch.tensor([1, 0]), index)["loss_bag"]
    assert found.item() == pytest.approx((0.126928 + 0.474077) / 2, abs=1e-6)


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
    with pytest.raises(UserError, match="scores has no work_dataloader"):
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
