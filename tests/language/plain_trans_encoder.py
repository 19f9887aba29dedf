"""Trans-Encoder: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A step of the bi-encoder on labels of the cross-encoder."""
    body = dict(
        model_type="bert",
        vocab_size=1000,
        max_position_embeddings=64,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
    )
    families = [
        dict(
            bi=dict(type="pld_mmdet.PooledTransformer", config=body),
            cross=dict(type="pld_mmdet.JointTransformer", config=body),
        )
    ]
    model = build("TransEncoder", families=families, pairs=16)
    model.progress.stage = "bi_1"
    model.enter_stage("bi_1")
    model.labels.copy_(torch.rand(16))
    twin = copy.deepcopy(model)
    first, second = torch.randint(4, 1000, (2, 16, 32))
    mask, index = torch.ones_like(first), torch.arange(16)

    def mathematics() -> Tensor:
        u, v = (
            twin.bi[0].body(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
            for ids in (first, second)
        )
        return F.mse_loss(F.cosine_similarity(u, v), twin.labels)

    batch = dict(first=first, first_mask=mask, second=second, second_mask=mask)
    sides = ours(model, dict(**batch, index=index)), plain(twin, mathematics)
    return Pair("Trans-Encoder", "16 pairs of 32 tokens", model, twin, *sides)
