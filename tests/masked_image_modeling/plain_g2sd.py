"""G2SD: a step of its generic stage and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """G2SD: 16 of 64 patches are visible, the teacher's decoder stops half-way."""
    vit = dict(type="pld_mmdet.MaskedViT", image_size=32, patch_size=4, heads=4)
    decoder = dict(type="pld_mmdet.MAEDecoder", heads=4)
    model = build(
        "G2SD",
        student=dict(vit, dim=128, depth=4),
        decoder=dict(decoder, dim=64, depth=2),
        teacher=dict(vit, dim=192, depth=4),
        teacher_decoder=dict(decoder, dim=96, depth=4),
        until=1,
        mean=0.4,
        std=0.3,
    )
    twin = copy.deepcopy(model)
    inputs = torch.rand(32, 3, 32, 32)

    def encode(net: nn.Module, x: Tensor, keep: Tensor) -> Tensor:
        tokens = net.patch_embed(x) + net.pos_embed[:, 1:]
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
        first = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], 1)
        for block in net.blocks:
            tokens = block(tokens)
        return net.norm(tokens)

    def decode(net: nn.Module, tokens: Tensor, keep: Tensor, blocks: int) -> Tensor:
        tokens = net.decoder_embed(tokens)
        whole = net.mask_token.repeat(len(tokens), 64, 1)
        places = keep[..., None].expand(-1, -1, tokens.shape[2])
        whole = whole.scatter(1, places, tokens[:, 1:])
        tokens = torch.cat([tokens[:, :1], whole], 1) + net.decoder_pos_embed
        for block in net.decoder_blocks[:blocks]:
            tokens = block(tokens)
        return tokens

    def mathematics() -> Tensor:
        x = (inputs - 0.4) / 0.3
        keep = torch.rand(32, 64).argsort(1)[:, :16]
        with torch.no_grad():
            h_t = encode(twin.teacher.network, x, keep)
            h_t = decode(twin.teacher_decoder.network, h_t, keep, 2)
        h_s = decode(twin.decoder, encode(twin.student, x, keep), keep, 2)
        wanted = F.layer_norm(h_t, (96,), eps=1e-6)
        return F.smooth_l1_loss(twin.predictor(h_s), wanted, beta=2.0)

    sides = ours(model, dict(inputs=inputs)), plain(twin, mathematics)
    return Pair("G2SD", "32 images of 32 x 32", model, twin, *sides)
