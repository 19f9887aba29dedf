"""Hybrid Distill: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """Hybrid Distill: relations of one block, a tenth of the tokens leaves twice."""
    vit = dict(type="pld_mmdet.MaskedViT", image_size=32, patch_size=4, heads=4)
    shape = dict(vit, dim=96, depth=4)
    model = build(
        "HybridDistill",
        student=shape,
        feature_teacher=shape,
        relation_teacher=shape,
        layers=[2],
        schedule=[(0, 0.9), (2, 0.9)],
        mean=0.4,
        std=0.3,
    )
    twin = copy.deepcopy(model)
    inputs = torch.rand(32, 3, 32, 32)

    def embed(net: nn.Module, x: Tensor) -> Tensor:
        patches = net.patch_embed(x) + net.pos_embed[:, 1:]
        first = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, patches], 1)

    def rows(tokens: Tensor, places: Tensor) -> Tensor:
        return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))

    def thin(tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
        unit = F.normalize(tokens[:, 1:].detach(), dim=2)
        order = (unit @ unit.mT).sum(2).argsort(dim=1, stable=True)
        places = F.pad(order[:, :count].sort(1).values + 1, (1, 0))
        return rows(tokens, places), places

    def relation(x: Tensor, y: Tensor) -> Tensor:
        x, y = (z.unflatten(2, (4, 24)).transpose(1, 2) for z in (x, y))
        return x @ y.mT / 24**0.5

    def divergence(theirs: Tensor, own: Tensor) -> Tensor:
        log_t, log_s = theirs.log_softmax(3), own.log_softmax(3)
        return (log_t.exp() * (log_t - log_s)).sum(3).mean()

    def mathematics() -> Tensor:
        x = (inputs - 0.4) / 0.3
        s, t, c = twin.student, twin.relation_teacher, twin.feature_teacher
        tokens, first = thin(embed(s, x), 57)  # of 64
        tokens = s.blocks[1](s.blocks[0](tokens))
        tokens, second = thin(tokens, 51)
        kept = first.gather(1, second)
        qkv_s = s.blocks[2].attn.qkv(s.blocks[2].norm1(tokens))
        tokens = s.norm(s.blocks[3](s.blocks[2](tokens)))
        with torch.no_grad():
            z = embed(t.network, x)
            for block in t.network.blocks[:2]:
                z = block(z)
            qkv_t = t.network.blocks[2].attn.qkv(t.network.blocks[2].norm1(z))
            wanted = rows(c(x), kept)
        (q_t, k_t, v_t), (q_s, k_s, v_s) = (
            part.chunk(3, 2) for part in (rows(qkv_t, kept), qkv_s)
        )
        loss = divergence(relation(q_t, k_t), relation(q_s, k_s))
        loss = loss + divergence(relation(v_t, v_t), relation(v_s, v_s))
        own, wanted = (F.layer_norm(z, (96,), eps=1e-6) for z in (tokens, wanted))
        return loss + F.smooth_l1_loss(own, wanted)

    sides = ours(model, dict(inputs=inputs)), plain(twin, mathematics)
    return Pair("Hybrid Distill", "32 images of 32 x 32", model, twin, *sides)
