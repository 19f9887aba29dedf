"""KD-Prune: worked numbers, what is kept, who learns in which stage."""

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.catalogue import ROOT
from pld_mmdet.classification.kd_prune import KDPrune, Pruned, el2n, subset
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", widths=(3, 4), num_classes=3)


def build(**changes) -> KDPrune:
    torch.manual_seed(0)
    config = dict(type="pld_mmdet.KDPrune", student=NET, teachers=[NET])
    return MODELS.build(config | changes)


def batch(n: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 3)


def test_losses_by_hand():
    """The page's and the addendum's logits."""
    z_s, z_t = torch.tensor([[2.0, 1, 0]]), torch.tensor([[1.0, 2, 0]])
    y = torch.tensor([0])
    for tau, expected in ((2.0, 0.3985690), (1.0, 0.4205125)):
        found = build(alpha=1.0, tau=tau).losses(z_s, z_t, y)
        assert set(found) == {"loss_kd"}
        assert found["loss_kd"].item() == pytest.approx(expected, abs=1e-6)
    z_s, z_t = torch.tensor([[1.0, 0, 0]]), torch.tensor([[3.0, 1, 0]])
    found = build(alpha=0.9).losses(z_s, z_t, torch.tensor([1]))
    assert found["loss_kd"].item() == pytest.approx(0.9 * 0.330936, abs=1e-6)
    assert found["loss_ce"].item() == pytest.approx(0.1 * 1.551445, abs=1e-6)
    assert sum(found.values()).item() == pytest.approx(0.452987, abs=2e-6)


def test_label_smoothing_by_hand_and_the_teachers_constant():
    """z = (1, 0, 0), y = 1, eps = .3: .8 x 1.551445 + .1 x .551445 + .1 x 1.551445."""
    z_s, z_t = torch.tensor([[1.0, 0, 0]]), torch.tensor([[3.0, 1, 0]])
    z_t.requires_grad_()
    z_s.requires_grad_()
    found = build(alpha=0.75, label_smoothing=0.3).losses(z_s, z_t, torch.tensor([1]))
    assert found["loss_ce"].item() == pytest.approx(0.25 * 1.451445, abs=1e-5)
    found["loss_kd"].backward()
    assert z_t.grad is None
    assert z_s.grad.any()


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_both_networks_see_the_view(stage):
    model, data, seen = build(), batch(), []
    model.enter_stage(stage)
    model.view = lambda x: x + 1
    for network in (model.student, model.teachers[0]):
        network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.loss(**data)
    assert len(seen) == (1 if stage == "teacher" else 2)
    assert all(torch.equal(x, data["inputs"] + 1) for x in seen)


def test_el2n_by_hand():
    """|(-.3, .2, .1)| = .3741657, and a wrong label is far."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    found = el2n(p, torch.tensor([0, 2, 0]))
    expected = [0.3741657, (0.49 + 0.04 + 0.81) ** 0.5, 0.0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    empty = el2n(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0,)
    with pytest.raises(UserError, match="targets"):
        el2n(p, torch.tensor([0, 2]))


def test_alpha_zero_is_cross_entropy_and_alpha_one_asks_no_label():
    data = batch()
    model = build(alpha=0.0)
    model.teachers[0].forward = None  # nobody asks it
    found = model.loss(**data)["loss_ce"]
    expected = F.cross_entropy(model.student(data["inputs"]), data["targets"])
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    model = build(alpha=1.0)
    one = model.loss(**data)["loss_kd"]
    other = model.loss(data["inputs"], data["targets"].flip(0))["loss_kd"]
    assert torch.equal(one, other)


def test_what_is_kept():
    scores = torch.tensor([0.3, 0.9, 0.1, 0.9, 0.5, 0.2, 0.4])
    assert subset(scores, 7, 0.4).tolist() == [1, 3, 4]
    assert subset(scores, 7, 1.0).tolist() == list(range(7))
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    assert subset(scores, 7, 0.5, labels=labels).tolist() == [1, 3, 4, 6]
    drawn = subset(None, 100, 0.13, seed=4)
    assert len(drawn) == 13
    assert torch.equal(drawn, subset(None, 100, 0.13, seed=4))
    assert not torch.equal(drawn, subset(None, 100, 0.13, seed=5))
    with pytest.raises(UserError, match="keeps nothing"):
        subset(scores, 7, 0.0)
    with pytest.raises(UserError, match="7 scores for 8"):
        subset(scores, 8, 0.5)


def test_pruned_data_keep_their_numbers(tmp_path):
    digits = dict(type="pld_mmdet.Digits", part="val")
    scores = -torch.arange(360.0)
    file = tmp_path / "scores.pth"
    torch.save(scores, file)
    first = Pruned(digits, 0.05, scores=str(file))
    assert [first[i]["index"] for i in range(len(first))] == list(range(18))
    torch.save(-scores, file)
    last = Pruned(digits, 0.05, scores=str(file))
    assert [last[i]["index"] for i in range(len(last))] == list(range(342, 360))
    torch.save(scores.clone().index_fill_(0, torch.tensor([7]), float("nan")), file)
    with pytest.raises(UserError, match="holds no scores"):
        Pruned(digits, 0.05, scores=str(file))
    with pytest.raises(UserError, match="does not exist"):
        Pruned(digits, 0.05, scores=str(tmp_path / "no.pth"))
    drawn = [Pruned(digits, 0.05, seed=seed).kept for seed in (0, 0, 1)]
    assert torch.equal(*drawn[:2])
    assert not torch.equal(*drawn[1:])
    whole = Pruned(digits, 1.0)
    assert len(whole) == 360
    balanced = Pruned(digits, 0.1, balanced=True)
    assert len({int(balanced[i]["targets"]) for i in range(len(balanced))}) == 10


def test_who_learns_in_which_stage():
    model, data = build(), batch()
    model.train()
    assert model.student.training
    assert not model.teachers.training
    before = {k: v.clone() for k, v in model.teachers.state_dict().items()}
    sum(model.loss(**data).values()).backward()
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad is not None for p in model.student.parameters())
    after = model.teachers.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    model.enter_stage("teacher")
    assert model.teachers.training
    assert not model.student.training
    sum(model.loss(**data).values()).backward()
    assert all(p.grad is None for p in model.student.parameters())
    assert all(p.grad is not None for p in model.teachers.parameters())


def test_the_named_network_answers():
    data = batch()
    teacher = build(predict_on="teacher").eval()
    expected = teacher.teachers[0](data["inputs"]).log_softmax(1)
    assert torch.allclose(teacher(mode="tensor", **data), expected, atol=1e-5)
    student = build().eval()
    found = student(mode="tensor", **data)
    assert torch.equal(found, student.student(data["inputs"]))


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="no share"):
        build(alpha=1.2)
    with pytest.raises(UserError, match="one teacher"):
        build(teachers=[NET, NET])
    with pytest.raises(UserError, match="no teacher"):
        build(teachers=[])
    with pytest.raises(UserError, match="no stage"):
        build().enter_stage("round")


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/kd_prune/paper.py")
    model = MODELS.build(cfg.model)
    found = model.loss(torch.rand(2, 3, 32, 32), torch.tensor([3, 80]))
    assert all(torch.isfinite(loss) for loss in found.values())
