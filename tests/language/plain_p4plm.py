"""P4PLM: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A step of C on kept logits."""
    body = dict(
        model_type="bert",
        vocab_size=1000,
        max_position_embeddings=32,
        hidden_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=768,
    )
    network = dict(type="pld_mmdet.EncoderTransformer", config=body)
    model = build(
        "P4PLM",
        student=dict(network, task="SequenceClassification", num_classes=6),
        masked=dict(network, task="MaskedLM"),
        samples=(32, 6),
    )
    model.enter_stage("distill")
    model.bank.write(torch.arange(32), 3 * torch.randn(32, 6))
    twin = copy.deepcopy(model)
    ids, kept = torch.randint(4, 1000, (32, 32)), twin.bank.rows.clone()
    mask = torch.ones_like(ids)

    def mathematics() -> Tensor:
        z = twin.student.model(input_ids=ids, attention_mask=mask).logits
        return F.kl_div(
            z.log_softmax(1),
            kept.log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )

    batch = dict(input_ids=ids, attention_mask=mask, index=torch.arange(32))
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("P4PLM", "32 x 32 tokens, KL on kept logits", model, twin, *sides)
