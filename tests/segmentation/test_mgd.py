"""MGD: the two terms by hand, masks of three boxes, who learns in which stage."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.learners.losses import pixel_ce
from pld_mmdet.segmentation.mgd import MGD, region_similarity_loss, similarity
from pld_mmdet.segmentation.networks.segmentors import full_logits
from pld_mmdet.shared.mixing import xor_boxes
from tests.segmentation.helpers import tiny_segmentor


def columns(*vectors):
    return torch.tensor(vectors).T[None]


def test_region_term_by_hand():
    """The addendum's: cosines .707107 and .96; the page's: MSE 0.25."""
    found = region_similarity_loss(
        columns((2.0, 0.0), (1.0, 1.0)), columns((3.0, 4.0), (4.0, 3.0))
    )
    assert 100 * found.item() == pytest.approx(3.1978, abs=1e-4)
    found = region_similarity_loss(
        columns((1.0, 0.0), (0.0, 1.0)), columns((1.0, 0.0), (1.0, 1.0))
    )
    assert 100 * found.item() == pytest.approx(25, abs=1e-4)


def test_similarity_is_symmetric_and_blind_to_scale():
    f = torch.randn(2, 5, 7)
    found = similarity(f)
    torch.testing.assert_close(found, found.transpose(1, 2))
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), torch.ones(2, 7))
    torch.testing.assert_close(similarity(3.7 * f), found)
    assert region_similarity_loss(f, 0.3 * f).item() == pytest.approx(0, abs=1e-10)


def test_region_term_of_other_widths_of_nothing_and_of_zeros():
    student = torch.randn(2, 5, 9, requires_grad=True)
    teacher = torch.randn(2, 3, 9, requires_grad=True)
    region_similarity_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    dead = torch.zeros(1, 4, 3, requires_grad=True)
    found = region_similarity_loss(dead, torch.randn(1, 4, 3))
    found.backward()
    assert found > 0.3  # the diagonal alone
    assert torch.isfinite(dead.grad).all()
    assert region_similarity_loss(student[:0], teacher[:0]) == 0
    for wrong in (torch.ones(2, 3, 8), torch.ones(1, 3, 9), torch.ones(2, 27)):
        with pytest.raises(UserError, match="do not fit"):
            region_similarity_loss(student, wrong)


def test_boxes_have_their_areas_and_cancel():
    np.random.seed(0)
    single = xor_boxes(400, (64, 128), boxes=1).float().mean((1, 2))
    assert 0.23 < single.min() < 0.27
    assert 0.48 < single.max() < 0.52
    three = xor_boxes(400, (64, 128))
    assert three.shape == (400, 64, 128)
    assert three.float().mean() < 0.375  # of three boxes of a third each, less overlaps
    everything = xor_boxes(3, (8, 8), area=(1.0, 1.0), boxes=1)
    assert everything.all()
    assert xor_boxes(0, (8, 8)).shape == (0, 8, 8)


def mgd(stage="distill", **kwargs):
    torch.manual_seed(0)
    deep = tiny_segmentor()
    deep["backbone"]["depth"] = 34
    method = MGD(tiny_segmentor(), tiny_segmentor(), deep, **kwargs)
    method.init_weights()
    method.enter_stage(stage)
    return method.train()


def batch(unlabelled=2, known=1):
    draw = torch.Generator().manual_seed(3)
    count = known + unlabelled
    targets = torch.randint(4, (count, 32, 64), generator=draw)
    targets[:, :, 60:] = 255
    images = torch.randint(256, (count, 3, 32, 64), generator=draw, dtype=torch.uint8)
    return dict(inputs=images, targets=targets, labelled=torch.arange(count) < known)


def answers(monkeypatch, method, student, wide, deep):
    """Constant logits and features, N x C x 1 x 2 each, for every network."""
    table = {method.student: student, method.wide: wide, method.deep: deep}

    def logits(net, images):
        return table[net].expand(len(images), -1, -1, -1)

    monkeypatch.setattr("pld_mmdet.segmentation.mgd.full_logits", logits)
    monkeypatch.setattr(
        MGD, "_answer", lambda self, net, x, size: (logits(net, x), logits(net, x) ** 2)
    )


@pytest.mark.parametrize(
    ("ours", "deep", "gap"),
    [
        (((1.0, 3.0), (0.0, 2.0)), ((1.0, 1.0), (0.0, 0.0)), 2.0),
        (((1.0, 3.0), (0.0, 2.0)), ((2.0, 2.0), (-1.0, 0.0)), 1.5),
    ],
)
def test_image_term_by_hand(monkeypatch, ours, deep, gap):
    """Means (2, 1) and (1, 0): L1 2, x .002 = .004; the page's: 1.5, .003."""
    method = mgd()
    maps = [torch.tensor(v).view(1, 2, 1, 2) for v in (ours, ours, deep)]
    answers(monkeypatch, method, *maps)
    given = dict(
        inputs=torch.zeros(3, 3, 1, 2),
        targets=torch.zeros(3, 1, 2).long(),
        labelled=torch.tensor([True, False, False]),
    )
    found = method.loss(**given)["loss_image"].item()
    assert found == pytest.approx(0.002 * gap, abs=1e-7)
    given = {name: torch.cat([v, v[1:]]) for name, v in given.items()}
    assert method.loss(**given)["loss_image"].item() == pytest.approx(0.004 * gap)


def test_labels_are_those_of_the_unmixed_images(monkeypatch):
    """m = 0: the teachers' labels of u0 alone, m = 1: of u1 alone."""
    method, given = mgd(), batch()
    for share, wanted in ((0, 1), (1, 2)):
        mask = torch.full((1, 32, 64), bool(share))
        monkeypatch.setattr(
            "pld_mmdet.segmentation.mgd.xor_boxes", lambda *_, m=mask: m
        )
        method.student.eval()
        found = method.loss(**given)
        with torch.no_grad():
            u = given["inputs"][wanted : wanted + 1]
            z = full_logits(method.student, u)
            pair = [full_logits(t, u).argmax(1) for t in (method.wide, method.deep)]
        total = sum(F.cross_entropy(z, label) for label in pair)
        assert found["loss_pixel"].item() == pytest.approx(total.item(), rel=1e-5)
        agree = (pair[0] == pair[1]).float().mean()
        assert found["agreement"].item() == pytest.approx(agree.item())


def test_labels_are_mixed_and_not_asked_of_mixed_images(monkeypatch):
    method, given = mgd().eval(), batch()
    mask = torch.zeros(1, 32, 64, dtype=torch.bool)
    mask[:, 5:20, 8:40] = True
    monkeypatch.setattr("pld_mmdet.segmentation.mgd.xor_boxes", lambda *_: mask)
    u0, u1 = given["inputs"][1:2], given["inputs"][2:3]
    mixed = torch.where(mask[:, None], u1, u0)
    with torch.no_grad():
        z = full_logits(method.student, mixed)
        total = 0
        for teacher in (method.wide, method.deep):
            one, two = (full_logits(teacher, u).argmax(1) for u in (u0, u1))
            total += F.cross_entropy(z, torch.where(mask, two, one))
    found = method.loss(**given)["loss_pixel"].item()
    assert found == pytest.approx(total.item(), rel=1e-6)


def two_classes(*logits):
    return torch.tensor(logits).float().view(1, 2, 1, 1).expand(-1, -1, 1, 2)


PAIR = dict(
    inputs=torch.zeros(3, 3, 1, 2),
    targets=torch.ones(3, 1, 2).long(),
    labelled=torch.tensor([True, False, False]),
)


def test_each_teacher_is_taught_by_the_other_by_hand(monkeypatch):
    """Wide says 0 by (2, 0), deep says 1 by (0, 1): ln(1 + e^2), ln(1 + e)."""
    method = mgd("teachers", cross=1.5)
    answers(monkeypatch, method, *(two_classes(*z) for z in ((0.0, 0), (2, 0), (0, 1))))
    method.progress.step, method.progress.steps = 4, 10
    found = method.loss(**PAIR)
    assert found["loss_wide_taught"].item() == pytest.approx(0.6 * 2.126928, abs=1e-5)
    assert found["loss_deep_taught"].item() == pytest.approx(0.6 * 1.313262, abs=1e-5)
    assert found["loss_wide"].item() == pytest.approx(2.126928, abs=1e-5)
    assert found["loss_deep"].item() == pytest.approx(0.313262, abs=1e-5)
    assert found["agreement"] == 0


def test_both_teachers_label_the_labelled_images_by_hand(monkeypatch):
    """The student's (3, 0) against wide's 0 and deep's 1: .048587 + 3.048587."""
    method = mgd()
    answers(monkeypatch, method, *(two_classes(*z) for z in ((3.0, 0), (2, 0), (0, 1))))
    found = method.loss(**PAIR)
    assert found["loss_known"].item() == pytest.approx(3.097174, abs=1e-5)
    assert found["loss_pixel"].item() == pytest.approx(3.097174, abs=1e-5)
    assert found["loss_ce"].item() == pytest.approx(3.048587, abs=1e-5)


def test_regions_are_means_of_their_pixels(monkeypatch):
    """A region of (1, 0) and (1, 2) beside (1, 0): its cosine is .7071, not .4472."""
    method = mgd(grid=2)
    ours = torch.tensor([[[1.0, 1, 1, 1], [1, 1, 1, 1]], [[0, 2, 0, 0], [0, 0, 0, 0]]])
    flat = torch.tensor([[[1.0] * 4] * 2, [[0.0] * 4] * 2])
    features = {method.student: ours, method.wide: flat}

    def answer(self, net, images, size):
        z = torch.zeros(len(images), 4, *size, requires_grad=True)
        return z, features[net].expand(len(images), -1, -1, -1)

    monkeypatch.setattr(MGD, "_answer", answer)
    found = method.loss(**batch())["loss_region"].item()
    assert found == pytest.approx(100 * 6 * (1 - 0.5**0.5) ** 2 / 16, abs=1e-4)


def test_equal_networks_have_no_image_and_no_region_term():
    method = mgd()
    method.deep = copy.deepcopy(method.student)
    method.wide = copy.deepcopy(method.student)
    losses = method.eval().loss(**batch())
    assert losses["loss_image"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_region"].item() == pytest.approx(0, abs=1e-6)
    assert losses["agreement"] == 1


def test_the_teachers_have_no_label_on_padding(monkeypatch):
    method, given = mgd(image_weight=0, region_weight=0), batch()
    z = torch.randn(1, 4, 32, 64, requires_grad=True)
    monkeypatch.setattr(
        "pld_mmdet.segmentation.mgd.full_logits",
        lambda net, x: z.expand(len(x), -1, -1, -1),
    )
    losses = method.loss(**given)
    (grad,) = torch.autograd.grad(losses["loss_known"], z)
    padding = given["targets"][:1] == 255
    assert (grad.abs().sum(1)[padding] == 0).all()
    assert losses["loss_ce"].item() == pytest.approx(
        pixel_ce(z, given["targets"][:1]).item()
    )


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


def test_only_the_student_learns_while_it_is_distilled():
    method = mgd()
    before = copy.deepcopy(
        {n: v for n, v in method.state_dict().items() if not n.startswith("student")}
    )
    total(method.loss(**batch(4, 2))).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == name.startswith("student"), name
    after = method.state_dict()
    assert all(torch.equal(after[name], v) for name, v in before.items())


def test_the_teachers_teach_each_other_and_the_weight_grows():
    method, given = mgd("teachers"), batch(4, 2)
    method.progress.step, method.progress.steps = 0, 10
    start = method.loss(**given)
    assert start["loss_wide_taught"] == 0
    method.progress.step = 5
    np.random.seed(1)
    losses = method.loss(**given)
    assert losses["loss_deep_taught"] > 0
    only = torch.autograd.grad(
        losses["loss_wide_taught"], list(method.deep.parameters()), allow_unused=True
    )
    assert all(gradient is None for gradient in only)
    total(method.loss(**given)).backward()
    assert all(p.grad is None for p in method.student.parameters())
    assert all(p.grad is not None for p in method.wide.parameters())


def test_no_labelled_images_and_no_unlabelled_ones():
    method = mgd()
    for given in (batch(2, 0), batch(0, 2)):
        found = total(method.eval().loss(**given))
        assert torch.isfinite(found)
        found.backward()
    with pytest.raises(UserError, match="mixes pairs"):
        method.loss(**batch(3, 1))
    with pytest.raises(UserError, match="predict_on"):
        mgd(predict_on="teacher")


@pytest.mark.parametrize("name", ["student", "wide", "deep"])
def test_it_answers_with_the_network_that_is_named(name):
    method, given = mgd(predict_on=name).eval(), batch()
    with torch.no_grad():
        (found,) = method.predict(given["inputs"], given["targets"])
        wanted = full_logits(getattr(method, name), given["inputs"]).argmax(1)
    assert torch.equal(found["predictions"], wanted)
