"""LAD: channel-wise distances and codes by hand, the fourth channel, three stages."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import channelwise_kl
from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.lad import (
    LAD,
    add_label_channel,
    fixed_codes,
    label_channel,
)
from pld_mmdet.segmentation.learners.losses import pixel_ce
from pld_mmdet.segmentation.networks.segmentors import full_logits, head_logits
from tests.segmentation.helpers import tiny_segmentor


def row(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("student", "teacher", "wanted"),
    [((1.0, 0.0, 2.0), (0.0, 3.0, 1.0), 1.896397), ((0.0, 4.0), (4.0, 0.0), 7.393875)],
)
def test_channel_wise_distance_by_hand(student, teacher, wanted):
    found = channelwise_kl(row(*student), row(*teacher), 4.0)
    assert found.item() == pytest.approx(wanted, abs=1e-5)
    many = [row(*values).expand(3, 2, 1, -1) for values in (student, teacher)]
    two = channelwise_kl(*many, 4.0)
    assert two.item() == pytest.approx(wanted, abs=1e-5)  # the mean over both


def test_the_distance_is_blind_to_a_constant_of_each_channel():
    s = torch.randn(2, 3, 4, 5)
    found = channelwise_kl(s + torch.randn(2, 3, 1, 1), s, 4.0)
    assert found.item() == pytest.approx(0, abs=1e-6)


def test_fixed_codes_are_those_of_voc():
    codes = fixed_codes(21)
    assert codes[[0, 1, 21]].tolist() == pytest.approx([-1.1, -1.0, 1.0])
    assert fixed_codes(7, 0.3)[[0, 7]].tolist() == pytest.approx([-1.2, 0.9])


def test_the_label_channel_has_a_value_for_each_class_and_for_padding():
    targets = torch.tensor([[[0, 1], [255, 1]], [[1, 0], [0, 255]]])
    codes = torch.tensor([[0.5, -1.0, 3.0], [2.0, 0.25, -4.0]])
    found = label_channel(targets, codes, 0.0, 10.0)
    assert found.shape == (2, 1, 2, 2)
    assert found[:, 0].tolist() == [
        [[5.0, -10.0], [30.0, -10.0]], [[2.5, 20.0], [20.0, -40.0]]
    ]  # fmt: skip
    many = label_channel(torch.zeros(1, 100, 100).long(), codes[:1], 0.03, 100.0)
    assert many.std().item() == pytest.approx(3.0, rel=0.05)
    assert many.mean().item() == pytest.approx(50.0, abs=0.2)
    assert label_channel(targets[:0], codes[:0], 0.1, 1.0).shape == (0, 1, 2, 2)


def lad(stage="student", aux=False, **kwargs):
    torch.manual_seed(0)
    config = tiny_segmentor()
    if aux:
        head = dict(config["decode_head"], in_channels=16, in_index=2)
        config["auxiliary_head"] = dict(head, input_transform=None)
    method = LAD(config, **kwargs)
    method.init_weights()
    method.enter_stage(stage)
    return method.train()


def batch():
    draw = torch.Generator().manual_seed(3)
    targets = torch.randint(4, (2, 32, 64), generator=draw)
    targets[:, :, 60:] = 255
    images = torch.randint(256, (2, 3, 32, 64), generator=draw, dtype=torch.uint8)
    return dict(inputs=images, targets=targets)


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


def test_a_channel_more_is_a_convolution_of_four_and_zeros_are_three():
    method, x = lad(), torch.randn(2, 4, 8, 8)
    stem = next(m for m in method.teacher.modules() if hasattr(m, "label_weight"))
    four = nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False)
    four.weight.data = torch.cat([stem.weight, stem.label_weight], 1)
    torch.testing.assert_close(stem(x), four(x))
    x[:, 3] = 0
    torch.testing.assert_close(
        stem(x), F.conv2d(x[:, :3], stem.weight, None, stem.stride, stem.padding)
    )
    assert stem.label_weight.std().item() == pytest.approx(0.1, rel=0.5)
    names = method.student.state_dict().keys()
    extra = method.teacher.state_dict().keys() - names
    assert [name.rpartition(".")[2] for name in extra] == ["label_weight"]


def test_the_teachers_codes_are_new_in_every_step_and_image(monkeypatch):
    method, seen = lad("teacher", scale=2.5), []

    def note(targets, codes, noise, scale):
        seen.append(codes)
        assert (noise, scale) == (0.03, 2.5)
        return label_channel(targets, codes, noise, scale)

    monkeypatch.setattr("pld_mmdet.segmentation.lad.label_channel", note)
    for _ in range(2):
        method.loss(**batch())
    codes = torch.cat(seen)
    assert codes.shape == (8, 5)
    assert len(codes.unique()) == 40


def test_each_answer_is_pulled_to_the_other_as_a_constant():
    method = lad("teacher", consistency=2.0)
    torch.manual_seed(4)
    losses = method.loss(**batch())
    torch.manual_seed(4)
    low = []
    for _ in range(2):
        codes = torch.randn(2, 5)
        maps = method._teacher_maps(*batch().values(), codes, 0.03)
        low.append(method.teacher.decode_head(maps))
    apart = channelwise_kl(*low, 4.0) + channelwise_kl(*low[::-1], 4.0)
    assert losses["loss_consistency"].item() == pytest.approx(
        2 * apart.item(), rel=1e-4
    )
    (grad,) = torch.autograd.grad(
        channelwise_kl(low[1], low[0], 4.0), low[0], allow_unused=True
    )
    assert grad is None
    for number, z in enumerate(low, 1):
        full = F.interpolate(z, (32, 64), mode="bilinear")
        wanted = pixel_ce(full, batch()["targets"]).item()
        assert losses[f"loss_ce_{number}"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_teachers_auxiliary_head_weighs_two_fifths():
    method = lad("teacher", aux=True)
    torch.manual_seed(4)
    losses = method.loss(**batch())
    torch.manual_seed(4)
    maps = method._teacher_maps(*batch().values(), torch.randn(2, 5), 0.03)
    method.teacher.decode_head(maps)  # draws what the loss has drawn
    second = head_logits(method.teacher, maps, (32, 64), "auxiliary")
    wanted = 0.4 * pixel_ce(second, batch()["targets"]).item()
    assert losses["loss_aux_1"].item() == pytest.approx(wanted, rel=1e-4)


def test_without_its_weight_the_student_learns_from_labels_alone(monkeypatch):
    method = lad(aux=True, weight=0.0)
    monkeypatch.setattr(method, "_teacher_maps", None)  # never asked
    losses = method.loss(**batch())
    base = copy.deepcopy(method)
    base.enter_stage("base")
    found = base.loss(**batch())
    assert losses["loss_ce"].item() == pytest.approx(found["loss_ce"].item(), rel=1e-6)
    small, large = losses["loss_aux"].item(), found["loss_aux"].item()
    assert 20 * small == pytest.approx(large, rel=1e-5)
    assert set(losses) == {"loss_ce", "loss_aux"}


def test_the_students_distance_is_to_a_teacher_that_reads_the_fixed_code():
    method = lad(noise=(0.03, 0.0), code_step=0.4)
    losses = method.loss(**batch())
    codes = fixed_codes(4, 0.4).expand(2, -1)
    with torch.no_grad():
        maps = method._teacher_maps(*batch().values(), codes, 0.0)
        wanted = method.teacher.decode_head(maps)
    method.train()
    x = method.student.extract_feat(
        (batch()["inputs"].flip(1).float() - method.student.data_preprocessor.mean)
        / method.student.data_preprocessor.std
    )
    low = method.student.decode_head(x)
    assert losses["loss_cwd"].item() == pytest.approx(
        3 * channelwise_kl(low, wanted, 4.0).item(), rel=1e-4
    )
    p = wanted.softmax(1)
    assert losses["teacher_entropy"].item() == pytest.approx(
        -(p * p.log()).sum(1).mean().item(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("stage", "learns"),
    [("base", "student"), ("teacher", "teacher"), ("student", "student")],
)
def test_one_part_learns_in_each_stage(stage, learns):
    method = lad(stage)
    before = copy.deepcopy(method.state_dict())
    total(method.loss(**batch())).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == name.startswith(learns), name
    for name, value in method.state_dict().items():
        if not name.startswith(learns):
            assert torch.equal(value, before[name]), name


def test_a_plain_teacher_has_no_channel_and_one_answer():
    method = lad("teacher", assisted=False)
    assert set(method.loss(**batch())) == {"loss_ce_1"}
    names = method.teacher.state_dict().keys()
    assert names == method.student.state_dict().keys()


def test_the_teacher_answers_with_the_labels_and_the_student_without():
    given = batch()
    method = lad(predict_on="teacher", noise=(0.5, 0.5)).eval()
    both = given["targets"], (given["targets"] + 1) % 4
    with torch.no_grad():
        (one,), (two,) = (method.predict(given["inputs"], t) for t in both)
        assert (one["predictions"] != two["predictions"]).any()
        # the fixed code, without noise
        maps = method._teacher_maps(*given.values(), method.codes.expand(2, -1), 0.0)
        wanted = head_logits(method.teacher, maps, (32, 64)).argmax(1)
        assert torch.equal(one["predictions"], wanted)
        with pytest.raises(UserError, match="reads labels"):
            method.predict(given["inputs"], given["targets"][:, :16])
        method.predict_on = "student"
        (one,), (two,) = (method.predict(given["inputs"], t) for t in both)
        assert torch.equal(one["predictions"], two["predictions"])
        wanted = full_logits(method.student, given["inputs"]).argmax(1)
        assert torch.equal(one["predictions"], wanted)


def test_only_padding_costs_no_cross_entropy_and_a_wrong_backbone_is_named():
    method, given = lad(), batch()
    given["targets"] = torch.full_like(given["targets"], 255)
    losses = method.loss(**given)
    assert losses["loss_ce"] == 0
    assert torch.isfinite(total(losses))
    for wrong in (nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Conv2d(4, 8, 3))):
        with pytest.raises(UserError, match="no first convolution"):
            add_label_channel(wrong)
