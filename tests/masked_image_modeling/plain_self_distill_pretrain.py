"""Self-distilled pre-training: our step and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A masked view for the pixels, the whole image for the class token."""
    vit = dict(type="pld_mmdet.MaskedViT", image_size=32, patch_size=4, heads=4)
    model = build(
        "SelfDistillPretrain",
        student=dict(vit, dim=128, depth=4),
        decoder=dict(type="pld_mmdet.MAEDecoder", dim=64, depth=2, heads=4),
        mean=0.4,
        std=0.3,
    )
    model.progress.stage = "distill"
    torch.nn.init.normal_(model.teacher.network.norm.weight)  # not the student itself
    twin = copy.deepcopy(model)
    inputs = torch.rand(32, 3, 32, 32)
    f, g, teacher = twin.student, twin.decoder, twin.teacher.network

    def mathematics() -> Tensor:
        x = (inputs - 0.4) / 0.3
        keep = torch.rand(32, 64).argsort(1)[:, :16]
        guess = g(f(x, keep), keep)
        pixels = x.unfold(2, 4, 4).unfold(3, 4, 4)  # N x C x rows x columns x 4 x 4
        pixels = pixels.permute(0, 2, 3, 4, 5, 1).reshape(guess.shape)
        middle, spread = pixels.mean(2, keepdim=True), pixels.var(2, keepdim=True)
        pixels = (pixels - middle) / (spread + 1e-6) ** 0.5
        hidden = torch.ones(32, 64).scatter_(1, keep, 0)
        error = ((guess - pixels) ** 2).mean(2)
        with torch.no_grad():
            theirs = teacher(x)[:, 0]
        gap = ((f(x)[:, 0] - theirs) ** 2).sum() / 32
        return (error * hidden).sum() / hidden.sum() + gap

    sides = ours(model, dict(inputs=inputs)), plain(twin, mathematics)
    return Pair(
        "Self-distilled pre-training", "32 images of 32 x 32", model, twin, *sides
    )
