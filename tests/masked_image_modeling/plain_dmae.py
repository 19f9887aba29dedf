"""DMAE: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """DMAE: 16 of 64 patches are visible, the teacher stops at three quarters."""
    vit = dict(type="pld_mmdet.MaskedViT", image_size=32, patch_size=4, heads=4)
    model = build(
        "DMAE",
        student=dict(vit, dim=128, depth=4),
        decoder=dict(type="pld_mmdet.MAEDecoder", dim=64, depth=2, heads=4),
        teacher=dict(vit, dim=192, depth=8),
        aligned=[(2, 5)],
        mean=0.4,
        std=0.3,
    )
    twin = copy.deepcopy(model)
    inputs = torch.rand(32, 3, 32, 32)
    student, teacher = twin.student, twin.teacher.network

    def embed(net: nn.Module, x: Tensor, keep: Tensor) -> Tensor:
        tokens = net.patch_embed(x) + net.pos_embed[:, 1:]
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
        first = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, tokens], 1)

    def run(blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        for block in blocks:
            tokens = block(tokens)
        return tokens

    def mathematics() -> Tensor:
        x = (inputs - 0.4) / 0.3
        keep = torch.rand(32, 64).argsort(1)[:, :16]
        z_s = run(student.blocks[:3], embed(student, x, keep))
        guess = twin.decoder(student.norm(run(student.blocks[3:], z_s)), keep)
        pixels = x.unfold(2, 4, 4).unfold(3, 4, 4)  # N x C x rows x columns x 4 x 4
        pixels = pixels.permute(0, 2, 3, 4, 5, 1).reshape(guess.shape)
        hidden = torch.ones(32, 64).scatter_(1, keep, 0)
        error = ((guess - pixels) ** 2).mean(2)
        with torch.no_grad():
            z_t = run(teacher.blocks[:6], embed(teacher, x, keep))
        ours, theirs = F.normalize(twin.project[0](z_s), dim=2), F.normalize(z_t, dim=2)
        return (error * hidden).sum() / hidden.sum() + F.l1_loss(ours, theirs)

    sides = ours(model, dict(inputs=inputs)), plain(twin, mathematics)
    return Pair("DMAE", "32 images of 32 x 32", model, twin, *sides)
