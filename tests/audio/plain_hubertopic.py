"""HuBERTopic: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
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
    model.progress.stage = "pretrain"
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
