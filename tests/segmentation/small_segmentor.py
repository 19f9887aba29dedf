"""A small segmentor in plain torch beside the one of mmsegmentation."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
