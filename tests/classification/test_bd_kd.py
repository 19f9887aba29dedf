"""BD-KD: hand-worked numbers, where gradients stop, its configs."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from pld_mmdet.classification import BDKD
from pld_mmdet.distill.divergences import kl, reverse_kl
from pld_mmdet.distill.losses import entropy
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.options import parse_options
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.registry import MODELS
from pld_mmdet.shared import CIFAR
from pld_mmdet.shared.data.cifar import crop_and_flip
from pld_mmdet.shared.networks.cifar_resnet import CIFARResNet
from tests.classification.helpers import check_toy

MLP = dict(type="pld_mmdet.MLP", sizes=(4, 3))
P_T = torch.tensor([[0.7, 0.2, 0.1]])
P_S = torch.tensor([[0.5, 0.3, 0.2]])


def build(**changes) -> BDKD:
    torch.manual_seed(0)
    return MODELS.build(
        dict(type="pld_mmdet.BDKD", student=MLP, teacher=MLP, **changes)
    )


def batch(n: int = 6) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator)
    return dict(inputs=x, targets=torch.arange(n) % 3, index=torch.arange(n))


def gradients(loss, network) -> list:
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return [g for g in found if g is not None]


def test_worked_numbers():
    """Worked by hand: the student is less confident, so nu goes to R."""
    assert entropy(P_T.log()).item() == pytest.approx(0.8018186, abs=1e-6)
    assert entropy(P_S.log()).item() == pytest.approx(1.0296530, abs=1e-6)
    model = build()
    value, sharper = model.student_divergence(P_T.log(), P_S.log())
    assert value.item() == pytest.approx(0.0851228 + 2 * 0.0920329, abs=1e-6)
    assert sharper == 0
    # The other way round F and R change places, and nu goes to F: the same two terms.
    value, sharper = model.student_divergence(P_S.log(), P_T.log())
    assert value.item() == pytest.approx(2 * 0.0920329 + 0.0851228, abs=1e-6)
    assert sharper == 1


def test_weights_are_per_image():
    both = torch.cat([P_T, P_S]).log(), torch.cat([P_S, P_T]).log()
    value, sharper = build(nu=5.0).student_divergence(*both)
    assert value.item() == pytest.approx(0.0851228 + 5 * 0.0920329, abs=1e-6)
    assert sharper == 0.5


def test_without_balancing_it_is_the_symmetric_sum():
    z_t, z_s = torch.randn(2, 8, 5).unbind(0)
    one = build(nu=1.0).student_divergence(z_t, z_s)[0]
    other = build(nu=1.0).student_divergence(z_s, z_t)[0]
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    expected = kl(z_t, z_s) + reverse_kl(z_t, z_s)
    assert one.item() == pytest.approx(expected.item(), rel=1e-5)


def test_temperature_is_in_the_gap_too():
    """At tau = 4 the divergence is that of logits / 4, times 16."""
    z_t, z_s = 3 * torch.randn(2, 8, 5).unbind(0)[0], torch.randn(8, 5)
    hot = build(tau=4.0).student_divergence(z_t, z_s)[0]
    cold = build(tau=1.0).student_divergence(z_t / 4, z_s / 4)[0]
    assert hot.item() == pytest.approx(16 * cold.item(), rel=1e-5)


def test_forward_is_mutual_learning():
    z_t, z_s = torch.randn(2, 8, 5).unbind(0)
    value = build(student_kl="forward", tau=2.0).student_divergence(z_t, z_s)[0]
    assert torch.equal(value, kl(z_t, z_s, 2.0))


def test_no_loss_crosses_over():
    model, data = build(), batch()
    losses = model.loss(**data)
    for name in ("loss_student_ce", "loss_student_kd"):
        assert gradients(model.loss(**data)[name], model.teacher) == []
        assert gradients(model.loss(**data)[name], model.student) != []
    for name in ("loss_teacher_ce", "loss_teacher_kd"):
        assert gradients(model.loss(**data)[name], model.student) == []
        assert gradients(model.loss(**data)[name], model.teacher) != []
    assert not losses["student_sharper"].requires_grad


def test_equal_networks_are_plain_classifiers():
    model, data = build(), batch()
    model.teacher.load_state_dict(model.student.state_dict())
    losses = model.loss(**data)
    assert losses["loss_student_kd"].abs() < 1e-6
    assert losses["loss_teacher_kd"].abs() < 1e-6
    total, _ = model.parse_losses(losses)
    found = gradients(total, model.student)
    ce = F.cross_entropy(model.student(data["inputs"]), data["targets"])
    for a, b in zip(found, gradients(ce, model.student), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_predicts_with_the_named_network():
    data = batch()
    for name in ("student", "teacher"):
        model = build(predict_on=name)
        (answer,) = model(mode="predict", **data)
        assert torch.equal(answer["logits"], getattr(model, name)(data["inputs"]))
        assert torch.equal(answer["targets"], data["targets"])


@pytest.mark.parametrize("wrong", [dict(student_kl="both"), dict(predict_on="ema")])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(UserError, match="is not known"):
        build(**wrong)


def test_student_starts_as_the_plain_classifier():
    torch.manual_seed(0)
    plain = MODELS.build(dict(type="pld_mmdet.Classifier", network=MLP))
    student = build().student.state_dict()
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, student[name])


def test_bfloat16():
    model, data = build(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(**data)
    assert losses["loss_student_kd"].dtype == torch.float32
    assert all(torch.isfinite(value) for value in losses.values())


def test_toy_config(tmp_path):
    check_toy("bd_kd/toy.py", tmp_path)


@pytest.mark.parametrize("name", ["mutual", "mutual_x3", "no_balance"])
def test_the_options_of_a_row_reach_the_model(name):
    [row] = Experiment.load("configs/bd_kd/toy.py", [name]).rows
    cfg = Config.fromfile(row.config)
    cfg.merge_from_dict(parse_options(row.options))
    model = MODELS.build(cfg.model)
    expected = {
        "mutual": ("forward", 1.0, 2.0),
        "mutual_x3": ("forward", 3.0, 2.0),
        "no_balance": ("balanced", 1.0, 1.0),
    }
    assert (model.student_kl, model.alpha, model.nu) == expected[name]


def write_cifar(folder, classes: int = 100, images: int = 8) -> None:
    """Random images in CIFAR's binary layout."""
    label_bytes = {10: 1, 100: 2}[classes]
    names = ["train.bin", "test.bin"]
    if classes == 10:
        names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name in names:
        table = rng.integers(0, 256, (images, label_bytes + 3072), np.uint8)
        table[:, :label_bytes] = np.arange(images)[:, None] % classes
        table.tofile(folder / name)


def test_networks_of_the_paper_have_their_sizes():
    model = Config.fromfile("configs/bd_kd/paper.py").model
    networks = [MODELS.build(model[name]) for name in ("student", "teacher")]
    sizes = [sum(p.numel() for p in one.parameters()) / 1e6 for one in networks]
    assert sizes == pytest.approx([1.2, 7.4], abs=0.05)


class TestCIFAR:
    @pytest.mark.parametrize(("classes", "images"), [(10, 40), (100, 8)])
    def test_reads_the_binary_files(self, tmp_path, classes, images):
        write_cifar(tmp_path, classes)
        data = CIFAR(tmp_path, "train", classes)
        assert len(data) == images
        assert data[3]["targets"] == 3
        name = "data_batch_1.bin" if classes == 10 else "train.bin"
        record = np.fromfile(tmp_path / name, np.uint8).reshape(8, -1)[3]
        pixels = torch.from_numpy(record[-3072:].copy()).view(3, 32, 32) / 255
        found = data[3]["inputs"] * data.std + data.mean
        assert torch.allclose(found, pixels, atol=1e-6)

    def test_files_are_checked(self, tmp_path):
        with pytest.raises(UserError, match="no file"):
            CIFAR(tmp_path, "test")
        (tmp_path / "test.bin").write_bytes(b"123")
        with pytest.raises(UserError, match="no whole images"):
            CIFAR(tmp_path, "test")
        with pytest.raises(UserError, match="no part"):
            CIFAR(tmp_path, "val")

    def test_what_is_put_around_is_black_and_numbers_can_be_given(self, tmp_path):
        write_cifar(tmp_path, 100)
        colours = dict(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.25))
        data = CIFAR(tmp_path, "train", augment=True, **colours)
        data.images.fill_(255)
        torch.manual_seed(0)
        found = torch.stack([data[i % 8]["inputs"] for i in range(40)])
        for channel, (white, black) in enumerate(
            [(0.9 / 0.5, -0.2), (0.8 / 0.4, -0.5), (0.7 / 0.25, -1.2)]
        ):
            values = found[:, channel].unique().tolist()
            assert values == pytest.approx([black, white], abs=1e-6)

    def test_flips_without_a_crop(self, tmp_path):
        write_cifar(tmp_path, 10)
        colours = dict(mean=(0.5,) * 3, std=(0.5,) * 3)
        data = CIFAR(tmp_path, "train", 10, flip=True, **colours)
        still = CIFAR(tmp_path, "train", 10, **colours)[5]["inputs"]
        torch.manual_seed(0)
        seen = [data[5]["inputs"] for _ in range(40)]
        turned = [torch.equal(one, still.flip(2)) for one in seen]
        assert all(
            torch.equal(one, still) != flip
            for one, flip in zip(seen, turned, strict=True)
        )
        assert 10 < sum(turned) < 30
        with pytest.raises(UserError, match="augment crops and flips already"):
            CIFAR(tmp_path, "train", 10, augment=True, flip=True)

    def test_crops_come_from_the_padded_image(self):
        image = torch.arange(1.0, 17).view(1, 4, 4)
        padded = F.pad(image, [1] * 4)
        windows = {
            tuple(w.flatten().tolist())
            for y in range(3)
            for x in range(3)
            for w in [padded[:, y : y + 4, x : x + 4]]
            for w in (w, w.flip(2))
        }
        torch.manual_seed(0)
        seen = {tuple(crop_and_flip(image, 1).flatten().tolist()) for _ in range(400)}
        assert seen == windows


def test_where_a_residual_network_normalises():
    """PS-KD's own: a pair after the stem and none at the end; KRR-ST's wider maps."""
    options = dict(num_classes=5, blocks=(1, 1), widths=(4, 6), stem=4)
    plain = CIFARResNet(**options).backbone
    theirs = CIFARResNet(**options, stem_norm=True, last_norm=False).backbone
    kinds = [[type(m).__name__ for m in net] for net in (plain, theirs)]
    pair, block = ["BatchNorm2d", "ReLU"], ["_PreActBlock"] * 2
    end = ["AdaptiveAvgPool2d", "Flatten"]
    assert kinds[0] == ["Conv2d", *block, *pair, *end]
    assert kinds[1] == ["Conv2d", *pair, *block, *end]
    wide = CIFARResNet(**options, stem_padding=2).backbone[0]
    assert wide(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 34, 34)
    spread = [
        CIFARResNet(stem=512, widths=(4,), blocks=(1,), init=name).backbone[0].weight
        for name in ("kaiming", "torch")
    ]
    # normal of variance 2 / (9 * 512) against uniform of bound 1 / sqrt 27
    assert spread[0].std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.03)
    assert spread[1].abs().max().item() <= 27**-0.5
    assert spread[1].std().item() == pytest.approx(1 / 9, rel=0.03)
