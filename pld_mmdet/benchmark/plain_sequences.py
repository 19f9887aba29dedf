"""Language and audio: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain, step_case
from pld_mmdet.engine.progress import Progress


@step_case
def taid_step() -> Pair:
    """TAID with two GPT-2 of 5000 words."""
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=64)
        | dict(n_embd=128, vocab_size=5000),
    )
    teacher = {**gpt2, "config": {**gpt2["config"], "n_layer": 4}}
    model = build("TAID", student=gpt2, teacher=teacher)
    model.progress = Progress(steps=1000)
    twin = copy.deepcopy(model)
    ids = torch.randint(5000, (8, 64))
    t = twin.time.t
    step, momentum, previous = 0, 0.0, 0.0

    def later(value: float) -> float:
        nonlocal step, momentum, previous
        now, linear = t.item(), 0.4 + 0.6 * step / 1000
        if step:
            momentum = 0.99 * momentum + 0.01 * (previous - value) / previous
            faster = 5e-4 / (1 + math.exp(-momentum)) * (1 - now)
            now = min(1.0, max(linear, now + faster))
        step, previous = step + 1, value
        return now

    def mathematics() -> Tensor:
        z_s = twin.student(ids, None)[:, :-1]
        with torch.no_grad():
            z_t = twin.teacher(ids, None)[:, :-1]
            target = ((1 - t) * z_s + t * z_t).softmax(-1)
        loss = -(target * z_s.log_softmax(-1)).sum(-1).mean()
        t.fill_(later(loss.item()))
        return loss

    sides = ours(model, dict(input_ids=ids, labels=ids)), plain(twin, mathematics)
    apart = ("time.momentum", "time.previous")
    return Pair("TAID", "8 x 64 tokens, 5000 words", model, twin, *sides, apart)


@step_case
def ernie_tiny_step() -> Pair:
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


@step_case
def hubertopic_step() -> Pair:
    """HuBERTopic's pre-training on 1.2 s at 4 kHz."""
    utterances, samples, units, topics = 64, 4800, 24, 4
    model = build(
        "HuBERTopic",
        config=dict(
            hidden_size=192,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=768,
            conv_dim=(32, 32),
            conv_kernel=(20, 10),
            conv_stride=(10, 8),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            layerdrop=0.0,
        ),
        clusters=units,
        num_topics=topics,
    )
    frames = model.frames(samples)
    model.units = torch.randint(units, (utterances * frames,), dtype=torch.int32)
    model.starts = torch.arange(utterances + 1) * frames
    model.topics = torch.randint(topics, (utterances,))
    model.enter_stage("pretrain")
    twin = copy.deepcopy(model)
    waves, index = torch.randn(8, samples), torch.arange(8)
    net, labels = twin.encoder, twin.units.view(utterances, frames).long()

    def mathematics() -> Tensor:
        spans = (0.8 * frames / 10 + torch.rand(8)).floor()
        rank = torch.rand(8, frames)[:, : frames - 9].argsort(1).argsort(1)
        begins = F.pad((rank < spans[:, None]).float(), (9, 9))
        mask = F.max_pool1d(begins, 10, 1) > 0
        f = net.feature_extractor(waves).transpose(1, 2)
        f = 0.1 * f + 0.9 * f.detach()
        h = net.feature_projection(f)
        h = torch.where(mask[..., None], net.masked_spec_embed, h)
        h = net.encoder(h).last_hidden_state
        meet = F.normalize(twin.to_units(h[mask]), dim=1)
        logits = meet @ F.normalize(twin.codes, dim=1).T / 0.1
        hubert = F.cross_entropy(logits, labels[index][mask])
        topic = F.cross_entropy(twin.to_topics(h.mean(1)), twin.topics[index])
        return hubert + 0.1 * topic + 10 * f.square().mean()

    batch = dict(inputs=waves, index=index)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("HuBERTopic", "8 utterances of 1.2 s", model, twin, *sides)
