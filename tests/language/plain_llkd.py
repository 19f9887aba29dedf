"""LLKD: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A BERT of 2 x 128 on 32 texts of 32 words, 6 classes."""
    body = dict(model_type="bert", vocab_size=1000, max_position_embeddings=32)
    body |= dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4)
    body |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    bert = dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=6,
        config=body | dict(intermediate_size=512),
    )
    model = build("LLKD", student=bert, teacher=bert, samples=32, num_classes=6)
    model.answers.copy_(torch.randn(32, 6).softmax(1))
    twin = copy.deepcopy(model)
    ids, mask = torch.randint(1000, (32, 32)), torch.ones(32, 32, dtype=torch.long)
    c, y = twin.answers.max(1)
    tau = {"t": torch.tensor(1 / 6), "s": torch.tensor(0.0)}
    mean = {"t": torch.full((6,), 1 / 6), "s": torch.zeros(6)}
    count = torch.bincount(y, minlength=6)

    def threshold(side: str, value: Tensor) -> Tensor:
        tau[side] = 0.9 * tau[side] + 0.1 * value.mean()
        own = torch.zeros(6).index_add(0, y, value) / count.clamp(min=1)
        moved = 0.9 * mean[side] + 0.1 * own
        mean[side] = torch.where(count > 0, moved, mean[side])
        return (tau[side] * mean[side] / mean[side].max())[y]

    def mathematics() -> Tensor:
        z = twin.student(ids, mask)
        log_p = z.detach().log_softmax(1)
        u = -(log_p.exp() * log_p).sum(1) / math.log(6)
        kept = ((c >= threshold("t", c)) & (u >= threshold("s", u))).float()
        w = kept * c * u
        w = w * kept.sum() / w.sum().clamp(min=1e-12)
        ce = F.cross_entropy(z, y, reduction="none")
        return (w * ce).sum() / kept.sum().clamp(min=1)

    batch = dict(input_ids=ids, attention_mask=mask, index=torch.arange(32))
    sides = ours(model, batch), plain(twin, mathematics)
    means = ("tau_t", "tau_s", "mean_t", "mean_s")
    apart = ("visits", *(f"{name}.thresholds" for name in means))
    return Pair("LLKD", "32 x 32 tokens, 6 classes", model, twin, *sides, apart)
