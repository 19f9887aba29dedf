"""SimCLRv2: a step of the pretraining and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain
from pld_mmdet.shared.views import contrasted


def pair() -> Pair:
    """Two views of 16 images of 32 x 32."""
    model = build(
        "SimCLRv2",
        student=conv_net(16),
        teacher=conv_net(64, 128, 256, 512),
        num_classes=10,
        view="small_images",
    )
    model.enter_stage("pretrain")
    twin = copy.deepcopy(model)
    x = torch.rand(16, 3, 32, 32)

    def mathematics() -> Tensor:
        both = torch.cat([contrasted(x, (0.2, 1.0)), contrasted(x, (0.2, 1.0))])
        z = F.normalize(twin.head.layers(twin.encoder.backbone(both)), dim=1)
        a, b = z[:16], z[16:]
        own = torch.eye(16) * 1e9
        first = torch.cat([a @ b.T, a @ a.T - own], 1) / 0.1
        second = torch.cat([b @ a.T, b @ b.T - own], 1) / 0.1
        right = torch.arange(16)
        return F.cross_entropy(first, right) + F.cross_entropy(second, right)

    sides = ours(model, dict(inputs=x)), plain(twin, mathematics)
    return Pair("SimCLRv2", "2 x 16 images of 32 x 32", model, twin, *sides)
