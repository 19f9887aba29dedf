"""INS: a step with prototypes and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """INS: 32 instances, half of them in positive bags; the queue is full of keys."""
    n, width = 32, 128
    model = build(
        "INS",
        network=dict(conv_net(64, 256, 512), num_classes=2),
        num_samples=n,
        width=width,
        queue=1024,
        view="none",
        key_view="none",
    )
    model.progress.stage, model.progress.steps = "prototypes", 10
    keys = F.normalize(torch.randn(1024, width), dim=1)
    label = torch.randint(2, (1024, 1)).float()
    model.queue.push(dict(key=keys, label=label))
    model.prototypes.copy_(F.normalize(torch.randn(2, width), dim=1))
    twin = copy.deepcopy(model)
    x, index, y = torch.rand(n, 3, 16, 16), torch.arange(n), torch.arange(n) % 2
    # What the plain loop keeps for itself.
    state = dict(
        soft=torch.full((n, 2), 0.5),
        mu=model.prototypes.clone(),
        queue=keys,
        seen=label,
    )

    def mathematics() -> Tensor:
        enc, key = twin.encoder, twin.key.network
        features = enc.network.backbone(x)
        o = enc.network.fc(features)
        q = F.normalize(enc.project(features), dim=1)
        may = torch.stack([torch.ones(n), y.float()], 1)
        with torch.no_grad():
            guess = (o.softmax(1) * may).argmax(1)
            named = ((q @ state["mu"].T).softmax(1) * may).argmax(1)
            mu = state["mu"].clone()
            for row, c in zip(q, guess.tolist(), strict=True):
                mu[c] = 0.9 * mu[c] + 0.1 * row
            state["mu"] = F.normalize(mu, dim=1)
            for a, b in zip(key.parameters(), enc.parameters(), strict=True):
                a.mul_(0.999).add_(b, alpha=0.001)
            # batch statistics, and no trace in the running ones
            kept = {k: v.clone() for k, v in key.named_buffers()}
            key.train()
            k = F.normalize(key.project(key.network.backbone(x)), dim=1)
            key.eval()
            for name, buffer in key.named_buffers():
                buffer.copy_(kept[name])
            soft = 0.95 * state["soft"] + 0.05 * F.one_hot(named, 2)
            soft[y == 0] = torch.tensor([1.0, 0.0])
            state["soft"] = soft
        bank = torch.cat([q, k, state["queue"]])
        classes = torch.cat([guess, guess, state["seen"][:, 0].long()])
        eye = torch.eye(n, len(bank), dtype=torch.bool)
        log_p = (q @ bank.T / 0.07).masked_fill(eye, -torch.inf).log_softmax(1)
        same = (guess[:, None] == classes) & ~eye
        contrast = -(log_p.where(same, 0).sum(1) / same.sum(1)).mean()
        state["queue"] = torch.cat([state["queue"], k])[-1024:]
        state["seen"] = torch.cat([state["seen"], guess[:, None].float()])[-1024:]
        return -(soft * o.log_softmax(1)).sum(1).mean() + 0.5 * contrast

    batch = dict(inputs=x, bag_label=y, bag=index // 8, index=index)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair(
        "INS",
        "32 images of 16 x 16",
        model,
        twin,
        *sides,
        kept_apart=("prototypes", "soft.rows", "queue.rows_key", "queue.rows_label"),
    )
