"""dParallel: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.language.decoding.masked_diffusion import complementary_views


def pair() -> Pair:
    """The second stage, on a BERT of 2 x 256 and 2000 words."""
    body = dict(model_type="bert", vocab_size=2000, max_position_embeddings=64)
    body |= dict(hidden_size=256, num_hidden_layers=2, num_attention_heads=4)
    body |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    bert = dict(
        type="pld_mmdet.EncoderTransformer",
        task="MaskedLM",
        config=body | dict(intermediate_size=512),
    )
    model = build("DParallel", network=bert, mask_id=1999, block=16)
    twin = copy.deepcopy(model)
    ids, prompts = torch.randint(1999, (8, 64)), torch.full((8,), 16)

    def mathematics() -> Tensor:
        *views, first, second = complementary_views(ids, prompts, 16, 0.5005, 1999)
        total = 0
        for view, masked in ((views[0], first), (views[1], second)):
            z, y = twin.network(view)[masked], ids[masked]
            log_p = (z / 0.5).log_softmax(-1)
            h = -(log_p.exp() * log_p).sum(-1)
            right = (z.argmax(-1) == y).float()
            h = (h * right).sum() / right.sum().clamp(min=1)
            total = total + F.cross_entropy(z, y) + 2 * h
        return total

    batch = dict(input_ids=ids, prompt_lengths=prompts)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("dParallel", "8 x 64 tokens, 2000 words", model, twin, *sides)
