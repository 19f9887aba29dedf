"""PD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain

BODY = dict(
    model_type="bert",
    vocab_size=1000,
    max_position_embeddings=32,
    hidden_size=192,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=768,
)
CLASSIFIER = dict(
    type="pld_mmdet.EncoderTransformer", task="SequenceClassification", num_classes=6
)


def pair() -> Pair:
    """A step of distillation on the teacher's probabilities."""
    small = dict(BODY, hidden_size=128, num_hidden_layers=2, intermediate_size=512)
    model = build(
        "PD",
        student=dict(CLASSIFIER, config=small),
        teacher=dict(CLASSIFIER, config=BODY),
    )
    model.enter_stage("distill")
    twin = copy.deepcopy(model)
    ids = torch.randint(4, 1000, (32, 32))
    mask = torch.ones_like(ids)

    def mathematics() -> Tensor:
        asked = dict(input_ids=ids, attention_mask=mask)
        with torch.no_grad():
            p = twin.teacher.model(**asked).logits.softmax(1)
        return F.cross_entropy(twin.student.model(**asked).logits, p)

    batch = dict(input_ids=ids, attention_mask=mask)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("PD", "32 x 32 tokens, distillation", model, twin, *sides)
