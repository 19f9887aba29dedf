"""AutoDistil: a step of ours and the shortest loop of plain torch."""

import copy
import random

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """Four sub-networks against the relations of a teacher."""
    body = dict(
        model_type="bert",
        vocab_size=1000,
        max_position_embeddings=32,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
    )
    model = build(
        "AutoDistil",
        teacher=dict(type="pld_mmdet.EncoderTransformer", task="MaskedLM", config=body),
        student=dict(
            type="pld_mmdet.ElasticEncoder",
            layers=4,
            heads=4,
            width=192,
            vocab_size=1000,
            positions=32,
            head_size=48,
            dropout=0.0,
        ),
        space=dict(layers=(2, 4), heads=(2, 4), width=(96, 192), ratio=(2.0, 4.0)),
    )
    model.enter_stage("distill")
    twin = copy.deepcopy(model)
    ids, mask = torch.randint(4, 1000, (8, 32)), torch.ones(8, 32).long()

    def scores(x: Tensor) -> Tensor:
        size = x.shape[2] // 4
        x = x[..., : 4 * size].unflatten(2, (4, size)).transpose(1, 2)
        return x @ x.mT / size**0.5

    def mathematics() -> Tensor:
        layer = twin.teacher.body.encoder.layer[-1].attention.self
        with torch.no_grad():
            states = twin.teacher.body(
                input_ids=ids, attention_mask=mask, output_hidden_states=True
            ).hidden_states
            parts = [getattr(layer, name) for name in ("query", "key", "value")]
            theirs = [scores(part(states[-2])) for part in parts]
        others = random.Random(twin.progress.step).sample(twin.sizes[1:-1], 2)
        total = 0
        for size in (twin.sizes[-1], twin.sizes[0], *others):
            twin.student.size = size
            _, found = twin.student.inside(ids, mask)
            gaps = [
                F.mse_loss(scores(x), t) for x, t in zip(found, theirs, strict=True)
            ]
            total = total + sum(gaps)
        return total

    batch = dict(input_ids=ids, attention_mask=mask)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("AutoDistil", "8 x 32 tokens, four of 16", model, twin, *sides)
