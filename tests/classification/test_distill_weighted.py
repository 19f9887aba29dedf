"""DistillWeighted: worked numbers of weights and PARC, who learns from whom."""

import math

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification.distill_weighted import (
    DistillWeighted,
    _ranks,
    parc,
    source_weights,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", widths=(3, 4))


def build(**changes) -> DistillWeighted:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.DistillWeighted",
        student=dict(NET, num_classes=5),
        teachers=[dict(NET, num_classes=n) for n in (3, 4)],
        tasks=[[0, 0, 1, 1, 2], "rotation"],
    )
    return MODELS.build(config | changes)


def batch(n: int = 8, labelled: int = 5) -> dict:
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(n) % 5
    y[labelled:] = -1
    return dict(inputs=x, targets=y)


@pytest.mark.parametrize(
    ("scores", "p", "expected"),
    [
        ((0.4, 0.35, 0.1, -0.2), 1, (0.470588, 0.411765, 0.117647, 0)),
        ((0.4, 0.35, 0.1, -0.2), 4, (0.628896, 0.368647, 0.002457, 0)),
        ((0.4, 0.35, 0.1, -0.2), 12, (0.83235, 0.16765, 0, 0)),
        ((0.4, 0.35, 0.1, -0.2), math.inf, (1, 0, 0, 0)),
        ((0.3, 0.2, 0.1), 0, (1 / 3, 1 / 3, 1 / 3)),
        ((0.3, 0.2, 0.1), 4, (0.8265, 0.1633, 0.0102)),
        ((3e-4, 2e-4, 1e-4), 12, (0.9923, 0.0076, 0)),  # only ratios count
    ],
)
def test_source_weights_by_hand(scores, p, expected):
    found = source_weights(torch.tensor(scores), p)
    assert found.tolist() == pytest.approx(expected, abs=5e-5)


def test_source_weights_at_their_edges():
    assert source_weights(torch.zeros(0), 3).shape == (0,)
    with pytest.raises(UserError, match="above 0"):
        source_weights(torch.tensor([-0.1, 0.0]), 1)
    with pytest.raises(UserError, match="p=-1"):
        source_weights(torch.tensor([0.1]), -1)


def test_parc_by_hand_and_as_scipy_has_it():
    x = torch.tensor([[2, 0, 0], [1.8, 0.1, 0.2], [0, 2, 0.1], [0.2, 1.9, 0]])
    y = torch.tensor([0, 0, 1, 1])
    assert parc(x, y).item() == pytest.approx(0.8280787, abs=1e-6)
    import numpy as np
    from scipy.stats import spearmanr, zscore

    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(3)).double()
    y = torch.arange(12) % 3
    upper = np.triu_indices(12, 1)
    apart = 1 - np.corrcoef(zscore(x.numpy()))
    differ = (y[:, None] != y).double().numpy()
    expected = spearmanr(apart[upper], differ[upper]).statistic
    assert parc(x, y).item() == pytest.approx(expected, abs=1e-9)
    constant = torch.cat([x, torch.ones(12, 1)], 1)
    assert parc(constant, y).isfinite()
    with pytest.raises(UserError, match="two classes"):
        parc(x, torch.zeros(12))
    with pytest.raises(UserError, match="labels"):
        parc(x, y[:5])


def test_equal_values_share_the_mean_of_their_places():
    found = _ranks(torch.tensor([0.7, 0.1, 0.7, 0.4, 0.7]))
    assert found.tolist() == [4, 1, 4, 2, 4]
    assert _ranks(torch.zeros(0)).shape == (0,)


def test_both_terms_by_hand():
    model, data = build(lam=0.7), batch()
    model.alpha.copy_(torch.tensor([0.25, 0.75]))
    model.eval()
    found = model.loss(**data)
    f = model.student.features(data["inputs"])
    ce = F.cross_entropy(model.student.fc(f[:5]), data["targets"][:5])
    assert found["loss_ce"].item() == pytest.approx(0.7 * ce.item(), rel=1e-5)
    for i, alpha in enumerate((0.25, 0.75)):
        p = model.teachers[i](data["inputs"]).softmax(1)
        apart = -(p * model.heads[i](f).log_softmax(1)).sum(1).mean()
        expected = 0.3 * alpha * apart.item()
        assert found[f"loss_source_{i}"].item() == pytest.approx(expected, rel=1e-5)


def test_the_sources_term_reaches_the_students_features():
    model = build()
    model.enter_stage("distill")
    model.loss(**batch())["loss_source_1"].backward()
    assert model.student.backbone[0].weight.grad.any()
    assert model.heads[1].weight.grad.any()
    assert model.student.fc.weight.grad is None
    assert model.heads[0].weight.grad is None


def test_what_sources_learn():
    """Its class of each class; and how many quarter turns an image was given."""
    model, data = build(), batch(labelled=8)
    model.enter_stage("teacher")
    seen = []
    model.teachers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    found = model.eval().loss(**data)
    x, y = data["inputs"], data["targets"]
    own = torch.tensor([[0, 0, 1, 1, 2][label] for label in y.tolist()])
    expected = F.cross_entropy(model.teachers[0](x), own)
    assert found["loss_teacher_0"].item() == pytest.approx(expected.item(), rel=1e-5)
    turned = seen[0]
    turns = torch.tensor(
        [
            next(m for m in range(4) if torch.equal(t, one.rot90(m, (1, 2))))
            for one, t in zip(x, turned, strict=True)
        ]
    )
    assert len(turns.unique()) > 1
    expected = F.cross_entropy(model.teachers[1](turned), turns)
    assert found["loss_teacher_1"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_all_networks_see_the_view(stage):
    model, data, seen = build(tasks=[[0, 0, 1, 1, 2], [0, 1, 2, 3, 0]]), batch(8, 8), []
    model.enter_stage(stage)
    model.view = lambda x: x + 1
    for network in (model.student, *model.teachers):
        network.backbone.register_forward_pre_hook(lambda _, a: seen.append(a[0]))
    model.loss(**data)
    assert len(seen) == (2 if stage == "teacher" else 3)
    assert all(torch.equal(x, data["inputs"] + 1) for x in seen)


def test_what_has_no_weight_is_not_run():
    model = build()
    model.alpha.copy_(torch.tensor([0.0, 1.0]))
    model.teachers[0].forward = None
    assert set(model.loss(**batch())) == {"loss_ce", "loss_source_1"}
    model = build(lam=1)
    model.teachers[0].forward = model.teachers[1].forward = None
    data = batch()
    found = model.loss(**data)
    assert set(found) == {"loss_ce"}
    logits = model.student(data["inputs"][:5])
    expected = F.cross_entropy(logits, data["targets"][:5]).item()
    assert found["loss_ce"].item() == pytest.approx(expected, rel=1e-5)


def test_who_learns_in_which_stage():
    model = build()
    sum(model.loss(**batch()).values()).backward()
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is not None for p in model.heads.parameters())
    model.enter_stage("teacher")
    sum(model.loss(**batch(labelled=8)).values()).backward()
    assert all(p.grad is not None for p in model.teachers.parameters())
    assert all(p.grad is None for p in model.heads.parameters())
    assert not model.student.training


def test_similarities_come_from_the_labelled_images(tmp_path):
    model, data = build(p=3), batch(10, 10)
    data["inputs"] += data["targets"].view(-1, 1, 1, 1)  # classes can be seen
    order = torch.tensor([4, 9, 0, 7, 2, 1, 8, 3, 6, 5])  # a loader that shuffles
    rows = [{**{k: v[order] for k, v in data.items()}, "index": order}]
    rows.append({k: v[:2] for k, v in rows[0].items()})  # a sampler that repeats
    model.start_stage("distill", rows, tmp_path)
    model.eval()
    features = model.teachers[1].features(data["inputs"])
    expected = parc(features, data["targets"]).item()
    assert model.scores[1].item() == pytest.approx(expected, abs=1e-5)
    weights = source_weights(model.scores, 3)
    assert torch.equal(model.alpha, weights)
    with pytest.raises(UserError, match="no work_dataloader"):
        model.start_stage("distill", None, tmp_path)


def test_weights_are_powers_of_the_similarities(tmp_path, monkeypatch):
    """PARC of .2 and .4 at p = 3: 1 to 8; with labels only nothing is compared."""
    values = iter([torch.tensor(0.2), torch.tensor(0.4)])
    monkeypatch.setattr(
        "pld_mmdet.classification.distill_weighted.parc", lambda f, y: next(values)
    )
    model, rows = build(p=3), [{**batch(6, 6), "index": torch.arange(6)}]
    model.start_stage("distill", rows, tmp_path)
    assert model.alpha.tolist() == pytest.approx([1 / 9, 8 / 9])
    for other in (build(lam=1), build()):
        stage = "distill" if other.lam == 1 else "teacher"
        other.start_stage(stage, None, tmp_path)
        assert other.alpha.tolist() == [0.5, 0.5]


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="1 tasks for 2"):
        build(tasks=["rotation"])
    with pytest.raises(UserError, match="unknown task"):
        build(tasks=["jigsaw", "rotation"])
    with pytest.raises(UserError, match="3 classes for a task of 2"):
        build(tasks=[[0, 1, 0, 1, 0], "rotation"])
    with pytest.raises(UserError, match="lam=2"):
        build(lam=2)
    with pytest.raises(UserError, match="without a labelled"):
        build().loss(**batch(labelled=0))
    untaught = build(tasks=None)
    untaught.enter_stage("teacher")
    with pytest.raises(UserError, match="no `tasks`"):
        untaught.loss(**batch(labelled=8))


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/distill_weighted/paper.py")
    model = MODELS.build(cfg.model)
    found = model.loss(torch.rand(3, 3, 32, 32), torch.tensor([3, 8, -1]))
    assert all(torch.isfinite(loss) for loss in found.values())
