"""Distiller: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """Mean squared logits and the bound of three pairs of layers."""
    body = dict(
        model_type="bert",
        vocab_size=1000,
        max_position_embeddings=32,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
    )
    small = dict(body, hidden_size=128, num_hidden_layers=2, intermediate_size=512)
    classifier = dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=6,
    )
    model = build(
        "Distiller",
        finetuned=dict(classifier, config=body),
        student=dict(classifier, config=small),
        mix=0.3,
    )
    model.enter_stage("distill")
    twin = copy.deepcopy(model)
    ids = torch.randint(4, 1000, (16, 32))
    mask = torch.ones_like(ids)
    asked = dict(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    off = ~torch.eye(16, dtype=torch.bool)

    def bound(ours: Tensor, theirs: Tensor) -> Tensor:
        (helper,) = twin.helpers
        scores = helper.f(ours) @ helper.g(theirs).T
        q = helper.b(theirs).exp()
        e = scores.exp()
        others = (e.sum(1, keepdim=True) - e) / 15
        b = 0.3 * others + 0.7 * q
        joint = (scores.diagonal()[:, None] - b.log())[off].mean()
        return 1 + joint - (e / b.diagonal()[:, None])[off].mean()

    def mathematics() -> Tensor:
        with torch.no_grad():
            t = twin.finetuned.model(**asked)
        s = twin.student.model(**asked)
        inner = sum(
            bound(h[:, 0], t.hidden_states[2 * m][:, 0])
            for m, h in enumerate(s.hidden_states)
        )
        return F.mse_loss(s.logits, t.logits) - inner

    batch = dict(input_ids=ids, attention_mask=mask)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("Distiller", "16 x 32 tokens, MI", model, twin, *sides)
