"""FIRST: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """FIRST with two GPT-2 of 5000 words, temperature 0.3."""
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=64)
        | dict(n_embd=128, vocab_size=5000),
    )
    teacher = {**gpt2, "config": {**gpt2["config"], "n_layer": 4}}
    model = build("FIRST", student=gpt2, teacher=teacher, amount=0.3)
    twin = copy.deepcopy(model)
    ids = torch.randint(5000, (8, 64))

    def mathematics() -> Tensor:
        with torch.no_grad():
            p, top = twin.teacher(ids)[:, :-1].softmax(-1).topk(5)
            target = (p / 0.3).softmax(-1)
        s = twin.student(ids)[:, :-1].softmax(-1).gather(-1, top) + 1e-6
        s = s / s.sum(-1, keepdim=True)
        return F.kl_div(s.log(), target, reduction="sum") / len(ids)

    sides = ours(model, dict(input_ids=ids, labels=ids)), plain(twin, mathematics)
    return Pair("FIRST", "8 x 64 tokens, 5000 words", model, twin, *sides)
