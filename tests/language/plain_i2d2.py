"""I2D2: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.language.data.world import FactWorld, WorldStatements


def pair() -> Pair:
    """A round's step: a GPT-2 of 4 x 160 on 64 statements of 4 words."""
    gpt2 = dict(model_type="gpt2", n_layer=4, n_head=4, n_positions=16, n_embd=160)
    bert = dict(model_type="bert", vocab_size=8, hidden_size=8, num_hidden_layers=1)
    model = build(
        "I2D2",
        generator=dict(
            type="pld_mmdet.CausalTransformer", config=gpt2 | dict(vocab_size=238)
        ),
        critic=dict(
            type="pld_mmdet.EncoderTransformer",
            task="SequenceClassification",
            config=bert | dict(num_attention_heads=1, intermediate_size=8),
        ),
        words=dict(type="pld_mmdet.FactWorld"),
    )
    twin = copy.deepcopy(model)
    data = WorldStatements("train", 64, negated=0.0, filler=0.0)
    texts = [text for text, _ in data.samples]
    ids = torch.tensor([[1, *FactWorld().encode(text), 2] for text in texts])

    def mathematics() -> Tensor:
        z = twin.generator.model(ids, use_cache=False).logits[:, :-1]
        return F.cross_entropy(z.flatten(0, 1), ids[:, 1:].flatten())

    sides = ours(model, dict(text=texts)), plain(twin, mathematics)
    return Pair("I2D2", "64 statements of 4 words", model, twin, *sides)
