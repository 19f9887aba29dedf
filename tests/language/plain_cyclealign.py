"""CycleAlign: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A round's step with RRHF, a GPT-2 of 2 x 128 and 5000 words."""
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=32)
        | dict(n_embd=128, vocab_size=5000),
    )
    ranker = dict(type="pld_mmdet.ToneRanker")
    model = build("CycleAlign", network=gpt2, ranker=ranker, samples=(16, 32), prompt=8)
    model.ranked.random_(0, 5000)
    model.right.fill_(1.0)
    twin = copy.deepcopy(model)
    ranked = model.ranked.clone().flatten(0, 1)

    def mathematics() -> Tensor:
        z = twin.network(ranked)[:, 7:-1]
        told = z.log_softmax(-1).gather(-1, ranked[:, 8:, None]).squeeze(-1)
        s = told.mean(1).view(16, 3)
        apart = (s[:, None] - s[:, :, None]).relu().triu(1)
        return apart.sum((1, 2)).mean() - s[:, 0].mean()

    batch = dict(input_ids=ranked[::3], index=torch.arange(16))
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("CycleAlign", "16 x 3 x 32 tokens, 5000 words", model, twin, *sides)
