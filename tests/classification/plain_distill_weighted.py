"""DistillWeighted: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain


def pair() -> Pair:
    """A student and two sources on 8 + 24 images of 32 x 32."""
    network = dict(type="pld_mmdet.SmallConvNet", in_channels=3)
    student = dict(network, widths=(64, 128, 256, 512), num_classes=10)
    sources = [dict(network, widths=(16, 32), num_classes=n) for n in (5, 7)]
    model = build("DistillWeighted", student=student, teachers=sources)
    model.alpha.copy_(torch.tensor([0.7, 0.3]))
    twin = copy.deepcopy(model)
    x, y = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    y[8:] = -1

    def mathematics() -> Tensor:
        f = twin.student.features(x)
        found = 0.8 * F.cross_entropy(twin.student.fc(f[:8]), y[:8])
        for alpha, source, head in zip(
            (0.7, 0.3), twin.teachers, twin.heads, strict=True
        ):
            with torch.no_grad():
                p = source(x).softmax(1)
            found = found + 0.2 * alpha * F.cross_entropy(head(f), p)
        return found

    sides = ours(model, dict(inputs=x, targets=y)), plain(twin, mathematics)
    return Pair("DistillWeighted", "8 + 24 images of 32 x 32", model, twin, *sides)
