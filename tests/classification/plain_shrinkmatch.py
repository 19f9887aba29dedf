"""ShrinkMatch: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.shared.views import strong, weak


def pair() -> Pair:
    """A convolutional network on 8 + 24 images of 32 x 32."""
    network = dict(
        type="pld_mmdet.SmallConvNet", in_channels=3, widths=(64, 128, 256, 512)
    )
    model = build("ShrinkMatch", student=network, num_classes=10, threshold=0.1184)
    twin = copy.deepcopy(model)
    x, y = torch.rand(32, 3, 32, 32), torch.arange(32) % 10
    y[8:] = -1
    means: list[Tensor] = []
    ratio: list[Tensor] = []

    def mathematics() -> Tensor:
        views = torch.cat([weak(x[:8]), weak(x[8:]), strong(x[8:])])
        f = twin.student.features(views)
        z, a = twin.student.fc(f), twin.auxiliary(f[32:])
        q = z[8:32].detach().softmax(1)
        means.append(q.mean(0))
        q = F.normalize(q / torch.stack(means[-32:]).mean(0), 1, 1)
        top, label = q.max(1)
        sure = (top >= 0.1184).float()
        first = ratio[-1] if ratio else sure.mean()
        ratio.append(0.999 * first + 0.001 * sure.mean())
        values, order = q.sort(1, descending=True)
        tail = values.flip(1).cumsum(1).flip(1)
        reached = (values[:, :1] / (values[:, :1] + tail) >= 0.1184)[:, 2:]
        start = reached.int().argmax(1) + 2
        place = torch.arange(10)
        gone = (place > 0) & (place < start[:, None])
        gone = torch.zeros_like(gone).scatter(1, order, gone)
        log_p = a.masked_fill(gone, -torch.inf).log_softmax(1)
        weight = (1 - sure) * reached.any(1) * top
        rows = -log_p.gather(1, label[:, None]).squeeze(1)
        found = F.cross_entropy(z[:8], y[:8])
        found = found - (sure * (q * z[32:].log_softmax(1)).sum(1)).mean()
        return found + ratio[-1] * (weight * rows).mean()

    batch = dict(inputs=x, targets=y)
    sides = ours(model, batch), plain(twin, mathematics)
    apart = ("ratio", "means.rows_rows")
    return Pair("ShrinkMatch", "8 + 24 images of 32 x 32", model, twin, *sides, apart)
