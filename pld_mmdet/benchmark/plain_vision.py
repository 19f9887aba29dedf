"""Classification and segmentation: a step of ours and the shortest loop of torch."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import (
    Pair,
    build,
    descend,
    ours,
    plain,
    sgd,
    step_case,
)
from pld_mmdet.engine.progress import Progress


def conv_net(*widths: int) -> dict:
    """Config of a convolutional network for colour images."""
    return dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=widths)


@step_case
def bd_kd_step() -> Pair:
    """BD-KD with two convolutional networks on 32 x 32 images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    model = build("BDKD", student=student, teacher=teacher)
    twin = copy.deepcopy(model)
    x, y = torch.randn(64, 3, 32, 32), torch.arange(64) % 10

    def mathematics() -> Tensor:
        z_s, z_t = twin.student(x), twin.teacher(x)
        log_s, log_t = z_s.log_softmax(1), z_t.log_softmax(1)
        p_s, p_t = log_s.exp(), log_t.exp()
        sharper = (p_s * log_s).sum(1) > (p_t * log_t).sum(1)
        forward = (p_t.detach() * (log_t.detach() - log_s)).sum(1)
        reverse = (p_s * (log_s - log_t.detach())).sum(1)
        apart = torch.where(sharper, 2 * forward + reverse, forward + 2 * reverse)
        back = (p_s.detach() * (log_s.detach() - log_t)).sum(1)
        ce = F.cross_entropy(z_s, y) + F.cross_entropy(z_t, y)
        return ce + apart.mean() + back.mean()

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("BD-KD", "64 images of 32 x 32", model, twin, *sides)


@step_case
def ps_kd_step() -> Pair:
    """PS-KD in the sixth epoch of ten."""
    network = conv_net(64, 128, 256, 384)
    model = build("PSKD", network=network, num_samples=1000, num_classes=10)
    model.bank.rows.copy_(torch.rand(1000, 10).softmax(1))
    model.progress = Progress(steps=10, epoch=5, epochs=10)
    twin = copy.deepcopy(model)
    x, y, index = torch.randn(32, 3, 32, 32), torch.arange(32) % 10, torch.arange(32)
    past, alpha = twin.bank.rows, 0.8 * 6 / 10

    def mathematics() -> Tensor:
        log_p = twin.network(x).log_softmax(1)
        soft = (1 - alpha) * F.one_hot(y, 10) + alpha * past[index]
        past[index] = log_p.detach().exp()
        return -(soft * log_p).sum(1).mean()

    batch = dict(inputs=x, targets=y, index=index)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("PS-KD", "32 images of 32 x 32", model, twin, *sides)


@step_case
def dho_step() -> Pair:
    """DHO with as many labelled as unlabelled images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 384)
    model = build("DHO", student=student, teacher=teacher, num_classes=10)
    twin = copy.deepcopy(model)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    y[16:] = -1
    known, unknown = slice(0, 16), slice(16, 32)

    def mathematics() -> Tensor:
        f = twin.student.features(x)
        a, k = twin.ce_head(f), twin.kd_head(f)
        with torch.no_grad():
            p_t = (twin.teacher(x) / 2).softmax(1)
        log_k = (k / 2).log_softmax(1)
        kd = sum(
            F.kl_div(log_k[part], p_t[part], reduction="batchmean")
            for part in (known, unknown)
        )
        return 0.5 * F.cross_entropy(a[known], y[known]) + 0.5 * 2**2 * kd

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("DHO", "16 + 16 images of 32 x 32", model, twin, *sides)


MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def segmentor(width: int = 48, classes: int = 7) -> dict:
    """A ResNet-18 without its last stage, one convolution on its three maps."""
    channels = [width, 2 * width, 4 * width]
    norm = dict(type="BN")
    return dict(
        type="mmseg.EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=True
        ),
        backbone=dict(
            type="ResNetV1c",
            depth=18,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(0, 1, 2),
            base_channels=width,
            stem_channels=width,
            norm_cfg=norm,
        ),
        decode_head=dict(
            type="FCNHead",
            in_channels=channels,
            in_index=[0, 1, 2],
            input_transform="resize_concat",
            channels=width,
            num_convs=1,
            concat_input=False,
            dropout_ratio=0.0,
            num_classes=classes,
            norm_cfg=norm,
            align_corners=False,
            loss_decode=dict(type="CrossEntropyLoss"),
        ),
        test_cfg=dict(mode="whole"),
    )


def street(count: int) -> tuple[Tensor, Tensor]:
    """Images of 64 x 128, BGR bytes, and label maps of 7 classes."""
    images = torch.randint(256, (count, 3, 64, 128), dtype=torch.uint8)
    return images, torch.randint(7, (count, 64, 128))


def segment(network: nn.Module, images: Tensor) -> Tensor:
    """Raw images -> logits of their size."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    logits = network.decode_head(network.backbone((images.flip(1) - mean) / std))
    return F.interpolate(logits, images.shape[-2:], mode="bilinear")


@step_case
def hiast_step() -> Pair:
    """A round of HIAST; 30 % of the pixels have no label."""
    model = build("HIAST", segmentor=segmentor(), adversarial=0.0, per="pixel")
    model.enter_stage("round_1")
    twin = copy.deepcopy(model)
    weak, y = street(2)
    strong = 255 - weak
    y[:, :20] = 255

    def mathematics() -> Tensor:
        log_p = segment(twin.student, strong).log_softmax(1)
        with torch.no_grad():
            e = segment(twin.teacher, weak).softmax(1)
        sure = y != 255
        p = log_p.exp()
        smooth = -log_p.mean(1)[sure].mean()
        sharpen = -(p * log_p).sum(1)[~sure].mean()
        agree = -(e * log_p).sum(1)[~sure].mean()
        ce = F.nll_loss(log_p, y, ignore_index=255)
        return ce + 0.1 * smooth + sharpen + 0.5 * agree

    batch = dict(weak=weak, strong=strong, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("HIAST", "2 images of 64 x 128", model, twin, *sides)


def boxes(count: int, height: int, width: int) -> Tensor:
    """CutMix's masks: a box of half the area in each image."""
    wide = np.random.uniform(0.5, 1, count)
    tall = 0.5 / wide
    left = np.random.uniform(size=count) * (1 - wide)
    top = np.random.uniform(size=count) * (1 - tall)

    def inside(pixels: int, begin: np.ndarray, length: np.ndarray) -> np.ndarray:
        place = (np.arange(pixels) + 0.5) / pixels
        return (place >= begin[:, None]) & (place < (begin + length)[:, None])

    rows, columns = inside(height, top, tall), inside(width, left, wide)
    return torch.from_numpy(rows[:, :, None] & columns[:, None])


@step_case
def fst_step() -> Pair:
    """FST-D of depth 3 around CutMix self-training: four steps an iteration."""
    learner = dict(
        type="pld_mmdet.CutMixSelfTraining", segmentor=segmentor(), cutmix=1.0
    )
    model = build("FST", learner=learner, depth=3, mu=0.99, buffers="keep")
    model.t.fill_(1000)  # the average is warm
    twin = copy.deepcopy(model)
    inputs, y = street(4)
    labelled = torch.tensor([True, True, False, False])
    known, unknown, truth = inputs[:2], inputs[2:], y[:2]
    student, teacher = twin.student, twin.teacher
    optimizer = sgd(student, momentum=0.9)

    def loss() -> Tensor:
        with torch.no_grad():
            label = segment(teacher, unknown).argmax(1)
            box = boxes(2, 64, 128)
            mixed = torch.where(box[:, None], unknown.roll(-1, 0), unknown)
            label = torch.where(box, label.roll(-1, 0), label)
            both = torch.cat([known, mixed])
            teacher.train()
            log_p = segment(teacher, both)[2:].log_softmax(1)
            teacher.eval()
            doubt = -(log_p.exp() * log_p).sum(1)
            kept = doubt < doubt.flatten().quantile(0.8)
            label = label.where(kept, 255)
        logits = segment(student, both)
        ce = F.cross_entropy(logits[:2], truth)
        pseudo = F.cross_entropy(logits[2:], label, ignore_index=255)
        return ce + kept.numel() / kept.sum() * pseudo

    def iteration() -> None:
        here = [*student.state_dict().values()]
        state = optimizer.state
        before = [tensor.clone() for tensor in here]
        moments = {p: s["momentum_buffer"].clone() for p, s in state.items()}
        for number in range(4):
            for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
                t.data.lerp_(s.data, 0.01)
            if number == 3:
                for tensor, old in zip(here, before, strict=True):
                    tensor.copy_(old)
                state.clear()
                state.update({p: dict(momentum_buffer=m) for p, m in moments.items()})
            descend(optimizer, loss())

    batch = dict(inputs=inputs, targets=y, labelled=labelled)
    sides = ours(model, batch, momentum=0.9), iteration
    return Pair("FST", "2 + 2 images of 64 x 128, depth 3", model, twin, *sides)
