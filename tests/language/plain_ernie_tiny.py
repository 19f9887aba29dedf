"""ERNIE-Tiny: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """The last stage of ERNIE-Tiny: hidden states, attention, soft and hard labels."""
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
    bert = dict(type="pld_mmdet.EncoderTransformer")
    classifier = dict(bert, task="SequenceClassification", num_classes=6)
    model = build(
        "ERNIETiny",
        pretrained=dict(bert, task="MaskedLM", config=body),
        finetuned=dict(classifier, config=body),
        student=dict(classifier, config=small),
    )
    model.progress.stage = "TSD"
    model.enter_stage("TSD")
    twin = copy.deepcopy(model)
    ids, y = torch.randint(4, 1000, (32, 32)), torch.arange(32) % 6
    mask = torch.ones_like(ids)
    asked = dict(
        input_ids=ids,
        attention_mask=mask,
        output_hidden_states=True,
        output_attentions=True,
    )

    def mathematics() -> Tensor:
        with torch.no_grad():
            t = twin.finetuned.model(**asked)
        s = twin.student.model(**asked)
        latent = sum(
            F.mse_loss(twin.w(h), t.hidden_states[2 * m])
            for m, h in enumerate(s.hidden_states)
        ) + sum(
            F.mse_loss(a, t.attentions[2 * m + 1]) for m, a in enumerate(s.attentions)
        )
        soft = F.cross_entropy(s.logits, t.logits.softmax(1))
        return latent + soft + F.cross_entropy(s.logits, y)

    batch = dict(input_ids=ids, attention_mask=mask, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("ERNIE-Tiny", "32 x 32 tokens, stage TSD", model, twin, *sides)
