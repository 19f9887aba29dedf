"""MEND: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """Stage finetune with two GPT-2 of 2 x 128, 8 vectors, 32 + 16 tokens."""
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=64)
        | dict(n_embd=128, vocab_size=2000),
    )
    model = build("MEND", llm=gpt2, hypernet=gpt2, vectors=8)
    twin = copy.deepcopy(model)
    demos, ids = torch.randint(2000, (8, 32)), torch.randint(2000, (8, 16))
    llm, hyper = twin.llm.model, twin.hypernet.model

    def mathematics() -> Tensor:
        with torch.no_grad():
            z_t = llm(torch.cat([demos, ids], 1)).logits[:, 32:]
        read = torch.cat(
            [hyper.transformer.wte(demos), twin.prompts.expand(8, -1, -1)], 1
        )
        vectors = hyper.transformer(inputs_embeds=read).last_hidden_state[:, -8:]
        read = torch.cat([vectors, llm.transformer.wte(ids)], 1)
        z_s = llm(inputs_embeds=read).logits[:, 8:]
        log_s, log_t = (z.flatten(0, 1).log_softmax(-1) for z in (z_s, z_t))
        kl = F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")
        return F.cross_entropy(z_s[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) + kl

    batch = dict(demo_ids=demos, input_ids=ids, labels=ids)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("MEND", "8 x (32 + 16) tokens, 8 vectors", model, twin, *sides)
