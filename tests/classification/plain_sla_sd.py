"""SLA+SD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """A convolutional network on four turns of 32 x 32 images."""
    model = build("SLASD", network=conv_net(64, 128, 256, 512), num_classes=10)
    twin = copy.deepcopy(model)
    x, y = torch.randn(16, 3, 32, 32), torch.arange(16) % 10

    def mathematics() -> Tensor:
        turned = torch.stack([torch.rot90(x, m, (2, 3)) for m in range(4)], 1)
        features = twin.network.backbone(turned.flatten(0, 1))
        joint, single = twin.joint(features), twin.network.fc(features[::4])
        labels = (y[:, None] * 4 + torch.arange(4)).flatten()
        with torch.no_grad():
            teacher = sum(joint[m::4, m::4] for m in range(4)) / 4
            log_t = teacher.log_softmax(1)
        apart = (log_t.exp() * (log_t - single.log_softmax(1))).sum(1).mean()
        return F.cross_entropy(joint, labels) + F.cross_entropy(single, y) + apart

    sides = ours(model, dict(inputs=x, targets=y)), plain(twin, mathematics)
    return Pair("SLA+SD", "64 images of 32 x 32", model, twin, *sides)
