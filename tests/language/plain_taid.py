"""TAID: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """TAID with two GPT-2 of 5000 words."""
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=64)
        | dict(n_embd=128, vocab_size=5000),
    )
    teacher = {**gpt2, "config": {**gpt2["config"], "n_layer": 4}}
    model = build("TAID", student=gpt2, teacher=teacher)
    model.progress = Progress(steps=1000)
    twin = copy.deepcopy(model)
    ids = torch.randint(5000, (8, 64))
    t = twin.time.t
    step, momentum, previous = 0, 0.0, 0.0

    def later(value: float) -> float:
        nonlocal step, momentum, previous
        now, linear = t.item(), 0.4 + 0.6 * step / 1000
        if step:
            momentum = 0.99 * momentum + 0.01 * (previous - value) / previous
            faster = 5e-4 / (1 + math.exp(-momentum)) * (1 - now)
            now = min(1.0, max(linear, now + faster))
        step, previous = step + 1, value
        return now

    def mathematics() -> Tensor:
        z_s = twin.student(ids, None)[:, :-1]
        with torch.no_grad():
            z_t = twin.teacher(ids, None)[:, :-1]
            target = ((1 - t) * z_s + t * z_t).softmax(-1)
        loss = -(target * z_s.log_softmax(-1)).sum(-1).mean()
        t.fill_(later(loss.item()))
        return loss

    sides = ours(model, dict(input_ids=ids, labels=ids)), plain(twin, mathematics)
    apart = ("time.momentum", "time.previous")
    return Pair("TAID", "8 x 64 tokens, 5000 words", model, twin, *sides, apart)
