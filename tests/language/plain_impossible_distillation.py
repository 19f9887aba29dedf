"""Impossible Distillation: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.language.data.world import WorldDocuments


def pair() -> Pair:
    """A student's stage: a T5 of 2 x 128 on 64 pairs of texts."""
    words = dict(type="pld_mmdet.FactWorld")
    t5 = dict(model_type="t5", vocab_size=238, d_model=128, d_kv=32, d_ff=1024)
    t5 |= dict(num_layers=2, num_heads=4, dropout_rate=0.0, decoder_start_token_id=0)
    gpt2 = dict(model_type="gpt2", n_layer=1, n_head=1, n_embd=8, vocab_size=238)
    model = build(
        "ImpossibleDistillation",
        lm=dict(type="pld_mmdet.CausalTransformer", config=gpt2),
        student=dict(type="pld_mmdet.Seq2SeqTransformer", config=t5),
        critic=dict(type="pld_mmdet.WorldEntailment"),
        lm_words=words,
        student_words=words,
        template="{source}",
        banned=(),
    )
    twin = copy.deepcopy(model)
    model.enter_stage("student_0")
    twin.enter_stage("student_0")
    texts = WorldDocuments("train", 128).texts
    ids = torch.tensor([[*model.lm_words.encode(text), 2] for text in texts])
    source, target = ids[:64], ids[64:]
    before = torch.cat([target.new_zeros(64, 1), target[:, :-1]], 1)

    def mathematics() -> Tensor:
        z = twin.student.model(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            decoder_input_ids=before,
            use_cache=False,
        ).logits
        return F.cross_entropy(z.flatten(0, 1), target.flatten())

    batch = dict(source=texts[:64], target=texts[64:])
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("Impossible Distillation", "64 pairs of 9 words", model, twin, *sides)
