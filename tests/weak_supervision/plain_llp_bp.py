"""LLP-BP: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """LLPBP in a round, on 16 bags of 32."""
    bags, size = 16, 32
    model = build(
        "LLPBP",
        network=dict(type="pld_mmdet.MLP", sizes=(64, 1280, 1024, 128)),
        num_samples=bags * size,
        feat_dim=128,
    )
    model.progress.stage = "round_1"
    label = (torch.rand(bags * size, 1) < 0.4).float()
    model.labels.write(torch.arange(bags * size), label)
    twin = copy.deepcopy(model)
    inputs, sums = torch.randn(bags, size, 64), label.view(bags, size).sum(1)
    index = torch.arange(bags * size).view(bags, size)

    def mathematics() -> Tensor:
        z = twin.network(inputs.flatten(0, 1)).relu()
        bag = twin.bag_head(z.view(bags, size, -1).mean(1))[:, 0]
        return F.binary_cross_entropy_with_logits(
            twin.instance_head(z), label
        ) + 0.1 * F.binary_cross_entropy_with_logits(bag, sums / size)

    batch = dict(inputs=inputs, sums=sums, index=index)
    sides = ours(model, batch), plain(twin, mathematics)
    return Pair("LLP-BP", "16 bags of 32", model, twin, *sides)
