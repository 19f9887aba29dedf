"""INFER: the budget and the student's loss by hand, who learns what, the files."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.distilled import DistilledPairs
from pld_mmdet.dataset_distillation.data.real import cropped, real_images
from pld_mmdet.dataset_distillation.infer import INFER, plan
from pld_mmdet.dataset_distillation.networks.bn_statistics import (
    StatisticsTap,
    statistics_gap,
)
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4, 6), num_classes=2)


def build(**changes) -> INFER:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.INFER",
        student=NET,
        teachers=[NET, NET, NET],
        image_shape=(3, 8, 8),
        num_classes=2,
        ipc=5,
    )
    return MODELS.build(config | changes)


class Real:
    """Twelve images of two classes; each is one grey."""

    metainfo = dict(classes=("dark", "light"))

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return dict(inputs=torch.full((3, 8, 8), i / 20), targets=torch.tensor(i % 2))


class Loader:
    dataset = Real()


def distilling(**changes) -> INFER:
    model = build(**changes)
    model.enter_stage("distill")
    model.start_stage("distill", Loader(), None)
    return model


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((10, 4, 100), (9, 45, 9.36)),
        ((50, 4, 100), (48, 240, 49.92)),
        ((10, 4, 10), (7, 35, 9.8)),
        ((50, 3, 1000), (49, 196, 49.147)),
        ((10, 3, 10), (7, 28, 9.1)),
        ((5, 3, 10), (3, 12, 3.9)),
        ((20, 2, 10), (16, 48, 19.2)),
        ((13, 3, 10), (10, 40, 13.0)),  # all of it
        ((3, 0, 8), (3, 3, 3.0)),
        ((0, 3, 10), (0, 0, 0.0)),
    ],
)
def test_budget(asked, answer):
    images, total, used = plan(*asked)
    assert (images, total) == answer[:2]
    assert used == pytest.approx(answer[2])


def test_a_budget_that_makes_no_sense():
    for asked in ((-1, 3, 10), (5, -1, 10), (5, 3, 0)):
        with pytest.raises(UserError, match="plan: ipc="):
            plan(*asked)
    with pytest.raises(UserError, match="do not pay for 3 networks"):
        build(ipc=1)


class Says(torch.nn.Module):
    def __init__(self, *rows):
        super().__init__()
        self.rows = torch.nn.Parameter(torch.tensor(rows))

    def forward(self, x):
        return self.rows[: len(x)]


def test_students_loss_by_hand():
    """T = 20, label (4, 0, 1), student (2, 1, 0): .001943, not 400 times that."""
    model = build(temperature=20.0, alpha=0.0, num_classes=3)
    model.student = Says((2.0, 1.0, 0.0))
    batch = dict(
        inputs=torch.rand(1, 3, 8, 8),
        targets=torch.tensor([[4.0, 0.0, 1.0]]),
        classes=torch.tensor([0]),
    )
    assert model.loss(**batch)["loss"].item() == pytest.approx(0.001943, abs=1e-6)
    model.labels = "hard"
    assert model.loss(**batch)["loss"].item() == pytest.approx(0.407606, abs=1e-5)


def test_labels_of_a_mix_are_mixed_logits(monkeypatch):
    """lam = .25, so 1/4 (4, 0) + 3/4 (0, 2) = (1, 1.5) in one row."""
    monkeypatch.setattr(np.random, "beta", lambda *_: 0.25)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.tensor([1, 0]))
    model = build(temperature=1.0)
    model.student = Says((0.0, 0.0), (0.0, 0.0))
    soft = torch.tensor([[4.0, 0.0], [0.0, 2.0]])
    found = model.loss(torch.rand(2, 3, 8, 8), soft, torch.tensor([0, 1]))["loss"]
    mixed = torch.tensor([[1.0, 1.5], [3.0, 0.5]])
    p = mixed.softmax(1)
    expected = (p * (p.log() + np.log(2))).sum(1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_dynamic_labels_are_those_of_the_mixed_batch():
    model = build(labels="dynamic", padding=0)
    seen = []
    model.soft = lambda x: seen.append(x) or torch.zeros(len(x), 2)
    model.student.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.loss(torch.rand(4, 3, 8, 8), torch.zeros(4, 2), torch.arange(4) % 2)
    assert torch.equal(seen[0], seen[1])


def test_statistics_are_tapped_in_one_pass():
    """By hand from the inputs of both batch norms; gradients reach the images."""
    network = build().teachers[0]
    x = torch.randn(5, 3, 8, 8, requires_grad=True)
    with StatisticsTap(network) as tap:
        network(x)
    first, second = network.backbone[1], network.backbone[4]
    inside = network.backbone[0](x)
    deep = network.backbone[3](network.backbone[:3](x))
    expected = statistics_gap(
        [t.mean((0, 2, 3)) for t in (inside, deep)],
        [t.var((0, 2, 3), unbiased=False) for t in (inside, deep)],
        [first.running_mean, second.running_mean],
        [first.running_var, second.running_var],
        7.0,
    )
    assert tap.gap(7.0).item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(tap.gap(), x)
    assert gradient.abs().sum() > 0
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    model = distilling()
    model.teachers[0] = network
    model.loss()
    assert calls == [1]


def test_one_compensator_learns_for_all_classes():
    model = distilling(jitter=0, bn_weight=0.3, first=7.0)
    assert len(model.compensators) == 6  # plan(5, 3, 2): 2 sets, 3 networks
    model.progress.step, model.progress.steps = 4, 6
    assert model.place(4) == (1, 1)
    sum(model.loss().values()).backward()
    moved = [u.grad is not None and bool(u.grad.any()) for u in model.compensators]
    assert moved == [False, False, False, False, True, False]
    others = (*model.teachers.parameters(), *model.student.parameters())
    assert all(p.grad is None for p in others)
    # its gradient is the sum of what each class's image would get
    x = (model.base[1] + model.compensators[4].detach()).requires_grad_()
    with StatisticsTap(model.teachers[1]) as tap:
        z = model.teachers[1](x)
    (F.cross_entropy(z, torch.arange(2)) + 0.3 * tap.gap(7.0)).backward()
    assert torch.allclose(model.compensators[4].grad[0], x.grad.sum(0), atol=1e-5)


def test_a_view_is_rolled_by_up_to_jitter_and_cropped_if_asked(monkeypatch):
    areas, seen = [], []
    monkeypatch.setattr(
        "pld_mmdet.dataset_distillation.infer.resized_crop",
        lambda x, area: areas.append(area) or x,
    )
    monkeypatch.setattr("pld_mmdet.dataset_distillation.infer.mirrored", lambda x: x)
    model = distilling(jitter=2)
    model.base.copy_(torch.rand_like(model.base))
    model.teachers[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for _ in range(60):
        model.loss()
    moves = {(y, x): model.base[0].roll((y, x), (2, 3)) for y in range(3)
             for x in range(3)}  # fmt: skip
    found = {m for view in seen for m, x in moves.items() if torch.allclose(view, x)}
    assert found == set(moves)
    assert not areas
    model.crop = True
    model.loss()
    assert areas == [(0.08, 1.0)]


def test_each_compensator_belongs_to_its_set():
    """Sets 0 and 1 of three networks each: entries 4 to 9 of the whole are x_k + u."""
    model = distilling()
    images, _ = model.synthetic()
    for number, base in enumerate([0, 0, 0, 1, 1, 1]):
        pair = images[4 + 2 * number : 6 + 2 * number]
        assert torch.allclose(pair, model.base[base], atol=1 / 500)


def test_networks_see_normalised_images(tmp_path):
    """.75 of mean .5 and deviation .25 is 1; the crop's border is black, so -2."""
    model, seen = distilling(mean=0.5, std=0.25, padding=2, alpha=0.0), []
    model.write(tmp_path)
    pairs = DistilledPairs(tmp_path)
    known = (pairs.images - 0.5) / 0.25
    expected = torch.stack([net(known) for net in model.teachers]).mean(0)
    assert torch.allclose(pairs.targets, expected, atol=1e-4)
    model.enter_stage("student")
    model.student.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.loss(
        torch.full((20, 3, 8, 8), 0.75), torch.zeros(20, 2), torch.zeros(20).long()
    )
    assert set(seen[0].unique().tolist()) == {-2.0, 1.0}


def test_hard_labels_are_mixed_too(monkeypatch):
    """lam = .25: (1/4, 3/4) and (3/4, 1/4) of classes 0 and 1, z = (1, 0)."""
    monkeypatch.setattr(np.random, "beta", lambda *_: 0.25)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.tensor([1, 0]))
    model = build(labels="hard")
    model.student = Says((1.0, 0.0), (3.0, 0.0))
    found = model.loss(torch.rand(2, 3, 8, 8), torch.zeros(2, 2), torch.tensor([0, 1]))
    # -log p of z = (1, 0): .313262, 1.313262; of (3, 0): .048587, 3.048587
    rows = 0.25 * 0.313262 + 0.75 * 1.313262, 0.75 * 0.048587 + 0.25 * 3.048587
    assert found["loss"].item() == pytest.approx(sum(rows) / 2, abs=1e-5)


def test_the_set_is_real_images_and_compensated_ones():
    model = distilling(mean=0.5, std=0.25)
    with torch.no_grad():
        for number, u in enumerate(model.compensators):
            u.fill_(0.01 * (number + 1))
    images, classes = model.synthetic()
    assert images.shape == (16, 3, 8, 8)
    assert classes.tolist() == [0, 1] * 8
    assert images.min() >= 0
    assert images.max() <= 1
    raw = (model.base * 0.25 + 0.5).flatten(0, 1)
    assert torch.allclose(images[:4], raw, atol=1 / 500)
    gap = images[4:6] - raw[:2]  # u_00, of both classes alike
    assert torch.allclose(gap, torch.full_like(gap, 0.0025), atol=1 / 250)
    each = distilling(synthesis="each", ipc=3)
    assert each.synthetic()[0].shape[0] == 6
    assert [each.place(i) for i in range(3)] == [(0, 0), (1, 1), (2, 2)]
    assert each.compensators[0].shape[0] == 2
    none = distilling(synthesis="none", ipc=3)
    assert torch.allclose(none.synthetic()[0], none.base.flatten(0, 1), atol=1 / 500)


def test_the_product_is_files_that_train_a_student(tmp_path):
    model = distilling()
    model.enter_stage("student")
    model.start_stage("student", Loader(), tmp_path)
    pairs = DistilledPairs(tmp_path / "distilled")
    assert len(pairs) == 16
    assert pairs.metainfo == {"classes": ("dark", "light")}
    image, soft = pairs[3]["inputs"], pairs[3]["targets"]
    assert torch.allclose(image, model.synthetic()[0][3], atol=1e-6)
    answers = [network(image[None]) for network in model.teachers]
    assert torch.allclose(soft, torch.stack(answers).mean(0)[0], atol=1e-5)
    assert (tmp_path / "distilled/images/light/000003.png").is_file()
    batch = torch.utils.data.default_collate([pairs[i] for i in range(6)])
    model.loss(**batch)["loss"].backward()
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is None for p in model.teachers.parameters())


def test_real_images_are_drawn_by_class():
    found = real_images(Real(), 3, 2, seed=5)
    assert found.shape == (3, 2, 3, 8, 8)
    numbers = (found[:, :, 0, 0, 0] * 20).round().int()
    assert (numbers[:, 0] % 2 == 0).all()
    assert (numbers[:, 1] % 2 == 1).all()
    assert len(numbers.unique()) == 6
    assert torch.equal(found, real_images(Real(), 3, 2, seed=5))
    assert not torch.equal(found, real_images(Real(), 3, 2, seed=6))
    assert real_images(Real(), 0, 2, seed=5).shape == (0, 2, 3, 8, 8)
    with pytest.raises(UserError, match="has 6 real images, 7 are wanted"):
        real_images(Real(), 7, 2, seed=5)
    with pytest.raises(UserError, match="num_classes=1"):
        real_images(Real(), 2, 1, seed=5)


def test_crops_are_black_around():
    torch.manual_seed(0)
    views = cropped(torch.ones(64, 1, 8, 8), 2)
    sums = views.sum((1, 2, 3))
    assert sums.min() >= 36
    assert (sums == 64).any()
    assert set(views.unique().tolist()) == {0.0, 1.0}
    assert cropped(torch.ones(0, 1, 8, 8), 2).shape == (0, 1, 8, 8)


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="synthesis='some'"):
        build(synthesis="some")
    with pytest.raises(UserError, match="no work_dataloader"):
        build().start_stage("distill", None, None)
