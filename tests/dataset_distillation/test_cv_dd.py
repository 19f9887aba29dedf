"""CV-DD: votes by hand, who makes an image, whose statistics label it, replay."""

import numpy as np
import pytest
import torch
from mmengine.optim import CosineAnnealingLR
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.cv_dd import CVDD, prior_weights
from pld_mmdet.dataset_distillation.data.folders import read_distilled, write_distilled
from pld_mmdet.dataset_distillation.data.real import medium_images
from pld_mmdet.dataset_distillation.data.stored_views import (
    StoredViews,
    draw_views,
    views_of,
)
from pld_mmdet.dataset_distillation.networks.bn_statistics import StatisticsTap
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4, 6), num_classes=2)


def build(**changes) -> CVDD:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.CVDD",
        student=NET,
        teachers=[NET, NET, NET],
        image_shape=(3, 8, 8),
        num_classes=2,
        priors=(70, 60, 65),
        ipc=3,
        epochs=2,
        batch=4,
    )
    return MODELS.build(config | changes)


class Real:
    metainfo = dict(classes=("dark", "light"))

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return dict(inputs=torch.full((3, 8, 8), i / 24), targets=torch.tensor(i % 2))


class Loader:
    dataset = Real()


def recovering(**changes) -> CVDD:
    model = build(**changes)
    model.enter_stage("recover")
    model.start_stage("recover", Loader(), None)
    return model


@pytest.mark.parametrize(
    ("priors", "temperature", "votes"),
    [
        ([63, 65.3], 5, [0.386986, 0.613014]),
        (
            [63, 65.3, 68.5, 67.6, 67.4],
            10,
            [0.140279, 0.176556, 0.243140, 0.222213, 0.217813],
        ),
        ([56.4, 42.3], 5, [0.943747, 0.056253]),
        ([70, 60, 65], 5, [0.665241, 0.090031, 0.244728]),
        ([70, 60, 65], 10, [0.506480, 0.186324, 0.307196]),
        ([12.5], 5, [1.0]),
        ([], 5, []),
    ],
)
def test_votes_by_hand(priors, temperature, votes):
    assert prior_weights(priors, temperature).tolist() == pytest.approx(votes, abs=1e-6)
    tensor = torch.tensor(priors, dtype=torch.float64)
    found = prior_weights(tensor, temperature)
    assert found.dtype == torch.float64
    assert found.sum().item() == pytest.approx(1.0 if priors else 0.0)


def test_votes_that_make_no_sense():
    for asked in (([1.0, 2.0], 0), ([[1.0]], 5), (3.0, 5)):
        with pytest.raises(UserError, match="prior_weights: accuracies"):
            prior_weights(*asked)


def test_smoothed_rate_by_hand():
    """At epoch 100 of 300: .75 with eta 1, .933013 with eta 2, which ends at a half."""
    for eta, there, end in ((1, 0.75, 0.0), (2, 0.933013, 0.5)):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        rate = CosineAnnealingLR(optimizer, T_max=300 * eta, by_epoch=False)
        optimizer.step()
        for _ in range(100):
            rate.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(there, abs=1e-5)
        for _ in range(200):
            rate.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(end, abs=1e-5)


def test_who_makes_an_image():
    model = build()
    assert [model.voters(i) for i in range(4)] == [(0, 1), (0, 2), (1, 2), (0, 1)]
    assert build(members="best").voters(1) == (0, 2)
    drawn = build(members="random")
    found = {drawn.voters(i) for i in range(30)}
    assert found == {(0, 1), (0, 2), (1, 2)}
    assert drawn.voters(7) == drawn.voters(7)
    assert build(committee=1, members="best").voters(0) == (0,)


def test_loss_is_voted_and_moves_one_set():
    """Set 1 is made by networks 0 and 2: softmax(70 / 5, 65 / 5) = .731059, .268941."""
    model = recovering(jitter=0, first=3.0, bn_weight=0.2)
    model.progress.step = 1
    torch.manual_seed(3)
    found = model.loss()
    torch.manual_seed(3)
    from pld_mmdet.shared.views import mirrored, resized_crop

    view = mirrored(resized_crop(model.images[1], (0.08, 1.0)))
    ce = gap = 0.0
    for vote, member in ((0.731059, 0), (0.268941, 2)):
        with StatisticsTap(model.teachers[member]) as tap:
            z = model.teachers[member](view)
        ce = ce + vote * F.cross_entropy(z, torch.arange(2))
        gap = gap + vote * tap.gap(3.0)
    assert found["loss_ce"].item() == pytest.approx(ce.item(), rel=1e-5)
    assert found["loss_bn"].item() == pytest.approx(0.2 * gap.item(), rel=1e-5)
    sum(found.values()).backward()
    assert [x.grad is not None for x in model.images] == [False, True, False]
    others = (*model.teachers.parameters(), *model.student.parameters())
    assert all(p.grad is None for p in others)


def test_a_view_is_rolled_by_up_to_jitter_and_cropped(monkeypatch):
    areas, seen = [], []
    monkeypatch.setattr(
        "pld_mmdet.dataset_distillation.cv_dd.resized_crop",
        lambda x, area: areas.append(area) or x,
    )
    monkeypatch.setattr("pld_mmdet.dataset_distillation.cv_dd.mirrored", lambda x: x)
    model = recovering(jitter=2, ipc=1)
    with torch.no_grad():
        model.images[0].copy_(torch.rand(2, 3, 8, 8))
    model.teachers[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for _ in range(60):
        model.loss()
    moves = {(y, x): model.images[0].roll((y, x), (2, 3)) for y in range(3)
             for x in range(3)}  # fmt: skip
    found = {m for view in seen for m, x in moves.items() if torch.equal(view, x)}
    assert found == set(moves)
    assert set(areas) == {(0.08, 1.0)}


def test_classes_are_made_in_groups(monkeypatch):
    """Three classes in groups of two: entry 3 is class 2 of the second set."""
    net = dict(NET, num_classes=3)
    more = dict(student=net, teachers=[net] * 3, num_classes=3, batch=3)
    model = build(**more, group=2, jitter=0)
    model.enter_stage("recover")
    assert [len(x) for x in model.images] == [2, 1] * 3
    monkeypatch.setattr(
        "pld_mmdet.dataset_distillation.cv_dd.resized_crop", lambda x, area: x
    )
    monkeypatch.setattr("pld_mmdet.dataset_distillation.cv_dd.mirrored", lambda x: x)
    with torch.no_grad():
        model.images[3].copy_(torch.rand(1, 3, 8, 8))
    model.progress.step = 3
    expected = 0.0
    for vote, member in ((0.731059, 0), (0.268941, 2)):
        z = model.teachers[member](model.images[3])
        expected += vote * F.cross_entropy(z, torch.tensor([2])).item()
    assert model.loss()["loss_ce"].item() == pytest.approx(expected, rel=1e-5)


def test_the_start_is_real_images_set_by_set():
    model = build()
    model.hard = lambda images, labels: images[:, 0, 0, 0]
    model.enter_stage("recover")
    model.start_stage("recover", Loader(), None)
    wanted = medium_images(Real(), 3, 2, int(model.dice), model.hard)
    assert all(map(torch.equal, model.images, wanted))
    model, x, y = build(), torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1])
    costs = [F.cross_entropy(net.eval()(x), y, reduction="none")
             for net in model.teachers]  # fmt: skip
    assert torch.allclose(model.hard(x, y), sum(costs) / 3, atol=1e-6)


def test_stored_images_are_raw_and_networks_see_normalised_ones(tmp_path):
    """.75 of mean .5 and deviation .25 is 1; and crops have the asked area."""
    model = recovering(mean=0.5, std=0.25, area=(0.5, 0.6))
    with torch.no_grad():
        for image in model.images:
            image.copy_(torch.randn(2, 3, 8, 8).clamp(-2, 2))
    raw, classes = model.synthetic()
    assert torch.allclose(raw, torch.cat(list(model.images)) / 4 + 0.5, atol=1 / 400)
    assert classes.tolist() == [0, 1] * 3
    model.enter_stage("student")
    model.start_stage("student", Loader(), tmp_path)
    views = StoredViews(tmp_path / "distilled")
    again = model.relabel((views[0]["inputs"] - 0.5) / 0.25)
    assert torch.allclose(views[0]["targets"], again, atol=5e-3)
    area = views.stored["boxes"][..., 2].float() * views.stored["boxes"][..., 3].float()
    assert 0.49 < area.min() <= area.max() < 0.61
    seen = []
    model.student.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.loss(torch.full((4, 3, 8, 8), 0.75), torch.zeros(4, 2))
    assert torch.allclose(torch.cat(seen), torch.ones(4, 3, 8, 8), atol=1e-6)


def test_pixels_stay_pixels():
    """Of mean .5 and deviation .25 they lie in -2 to 2."""
    model = recovering(mean=0.5, std=0.25)
    with torch.no_grad():
        model.images[0].copy_(torch.randn(2, 3, 8, 8) * 9)
    model.loss()
    assert model.images[0].min() == -2
    assert model.images[0].max() == 2


def test_start_is_of_medium_difficulty():
    """Of six images a class the third and fourth by a difficulty that we say."""

    def hard(images, labels):
        return images[:, 0, 0, 0]

    found = medium_images(Real(), 2, 2, 7, hard)[:, :, 0, 0, 0]
    easiest = medium_images(Real(), 2, 2, 7, hard, start=0.0)[:, :, 0, 0, 0]
    hardest = medium_images(Real(), 2, 2, 7, hard, start=2 / 3)[:, :, 0, 0, 0]
    assert found.shape == (2, 2)
    assert (easiest[0] < easiest[1]).all()
    assert (easiest[1] < found[0]).all()
    assert (found[1] < hardest[0]).all()
    assert ((found[:, 0] * 24).round() % 2 == 0).all()
    assert ((found[:, 1] * 24).round() % 2 == 1).all()
    assert medium_images(Real(), 0, 2, 7, hard).shape == (0, 2, 3, 8, 8)


def test_labels_are_by_the_statistics_of_half_a_batch():
    model, x = build(), torch.rand(6, 3, 8, 8)
    votes = prior_weights([70, 60, 65], 10)
    before = {k: v.clone() for k, v in model.teachers.state_dict().items()}
    found = model.relabel(x)
    halves = []
    for part in (x[:3], x[3:]):
        answers = []
        for network in model.teachers:
            network.train()
            answers.append(network(part))
            network.eval()
        halves.append(sum(v * z for v, z in zip(votes, answers, strict=True)))
    assert torch.allclose(found, torch.cat(halves), atol=1e-5)
    model = build()
    model.relabel(x)  # and running buffers stay
    after = model.teachers.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    running = build(statistics="running").relabel(x)
    assert not torch.allclose(running, found, atol=1e-2)
    answers = [network(x) for network in model.teachers]
    expected = sum(v * z for v, z in zip(votes, answers, strict=True))
    assert torch.allclose(running, expected, atol=1e-5)


def test_views_are_played_again():
    torch.manual_seed(0)
    np.random.seed(0)
    images = torch.rand(5, 3, 8, 8)
    stored = draw_views(5, 3, 2, (8, 8))
    assert all(sorted(row) == list(range(5)) for row in stored["order"].tolist())
    assert stored["other"][0].tolist()[4] == 4  # alone in its batch
    for places in stored["other"]:
        assert {*places[:2].tolist()} == {0, 1}
    many = draw_views(6, 20, 3, (8, 8), area=(0.5, 0.6))
    inside = (many["cuts"][..., 1] - many["cuts"][..., 0]) * (
        many["cuts"][..., 3] - many["cuts"][..., 2]
    )
    assert len(inside.unique()) > 5  # boxes of many sizes
    assert not torch.equal(many["other"], torch.arange(6).expand(20, 6))
    sizes = many["boxes"][..., 2] * many["boxes"][..., 3]
    assert 0.5 - 1e-6 <= sizes.min() <= sizes.max() <= 0.6 + 1e-6
    assert 0.2 < many["flips"].float().mean() < 0.8
    together = views_of(images, stored, 1, torch.arange(5))
    alone = [views_of(images, stored, 1, torch.tensor([i])) for i in range(5)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    whole = dict(
        stored,
        boxes=torch.tensor([0.0, 0, 1, 1]).expand(3, 5, 4),
        flips=torch.zeros(3, 5, dtype=torch.bool),
        cuts=torch.tensor([2, 6, 0, 3]).expand(3, 5, 4),
    )
    plain = views_of(images, whole, 0, torch.arange(5))
    expected = images[stored["order"][0]]
    box = expected[stored["other"][0]][..., 2:6, 0:3]
    expected[..., 2:6, 0:3] = box
    assert torch.allclose(plain, expected, atol=1e-5)


def test_the_product_is_played_to_a_student(tmp_path):
    model = recovering()
    model.enter_stage("student")
    model.start_stage("student", Loader(), tmp_path)
    views = StoredViews(tmp_path / "distilled")
    assert len(views) == 2 * 2  # six images in batches of four: four and two
    found = read_distilled(tmp_path / "distilled")
    assert found["views"].dtype == torch.float16
    assert found["about"]["stored labels"] == 24
    assert [len(views[i]["targets"]) for i in range(4)] == [4, 2, 4, 2]
    for i in (1, 2):
        again = model.relabel(views[i]["inputs"])
        assert torch.allclose(views[i]["targets"], again, atol=2e-3)
    batch = torch.utils.data.default_collate([views[2]])
    loss = model.loss(**batch)["loss"]
    loss.backward()
    assert all(p.grad is not None for p in model.student.parameters())
    first = tmp_path / "distilled/labels.npz"
    before = first.read_bytes()
    model.start_stage("student", Loader(), tmp_path)
    assert first.read_bytes() == before  # a stage that starts again makes the same


def test_students_loss_is_a_mean_over_halves():
    """T = 20 as INFER's, in two halves of one image: .001943 and 0, half of it."""
    model = build(num_classes=3, batch=3)

    class Says(torch.nn.Module):
        def forward(self, x):
            first = x.mean((1, 2, 3))[:, None] > 0.5
            return torch.where(first, torch.tensor([2.0, 1, 0]), torch.zeros(3))

    model.student = Says()
    x = torch.ones(2, 3, 8, 8) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    soft = torch.tensor([[4.0, 0, 1], [7.0, 7, 7]])
    assert model.loss(x, soft)["loss"].item() == pytest.approx(0.001943 / 2, abs=1e-6)


def test_no_part_of_a_batch_is_empty():
    with pytest.raises(UserError, match=r"parts=3 views of a batch of 2 images \(6 in"):
        build(parts=3)  # 6 images in batches of 4: the last one has 2
    build(parts=3, batch=3)
    with pytest.raises(UserError, match=r"parts=4 views of a batch of 3 images"):
        build(parts=4, batch=3)
    with pytest.raises(UserError, match=r"parts=7 views of a batch of 6 images"):
        build(parts=7, batch=9)
    with pytest.raises(UserError, match=r"parts=0 views"):
        build(parts=0)
    model = build(parts=3, batch=3)
    with pytest.raises(UserError, match="a batch of 2 images is seen in parts=3"):
        model.loss_student(torch.rand(2, 3, 8, 8), torch.rand(2, 2))


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(UserError, match="2 priors and committee=2 for 3"):
        build(priors=(1.0, 2.0))
    with pytest.raises(UserError, match="members='some'"):
        build(members="some")
    with pytest.raises(UserError, match="no work_dataloader"):
        build().start_stage("recover", None, None)
    write_distilled(tmp_path, torch.zeros(2, 3, 4, 4), torch.zeros(2, 5))
    with pytest.raises(UserError, match="has no stored views"):
        StoredViews(tmp_path)
