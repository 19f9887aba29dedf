"""RG-LCD: a step with a latent proxy of ours and in plain torch."""

import copy
import math

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from pld_mmdet.benchmark.pairs import Pair, build, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """RG-LCD: student, averaged target, proxy."""
    net = dict(type="pld_mmdet.TimeMLP", width=640, depth=4, num_classes=9, guided=True)
    point = dict(type="pld_mmdet.PointReward", num_classes=8, width=128)
    model = build(
        "RGLCD",
        process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
        network=net,
        teacher=net,
        expert=point,
        proxy=point,
        reward="latent",
        num_classes=8,
        w=(0.0, 1.0),
    )
    model.progress = Progress(step=1, steps=10)
    nn.init.normal_(model.student.guide.weight, std=0.1)
    twin = copy.deepcopy(model)
    real, labels = torch.randn(64, 2), torch.arange(64) % 8
    wrappers = OptimWrapperDict(
        student=FiniteOptimWrapper(sgd(model.student)),
        proxy=FiniteOptimWrapper(sgd(model.proxy)),
    )
    student, target = twin.student, twin.target.network
    teacher, expert, proxy = twin.teacher.network, twin.expert.network, twin.proxy
    for_student, for_proxy = sgd(student), sgd(proxy)

    def angle(level: Tensor) -> Tensor:
        return (math.pi / 2 * (level / 999).clamp(max=0.99))[:, None]

    def f(net: nn.Module, z: Tensor, level: Tensor, w: Tensor) -> Tensor:
        x0 = net(z, (level / 999).clamp(max=0.99), (labels, w))
        place = 10.0 * level[:, None]
        total = place**2 + 0.25
        return 0.25 / total * z + place / total.sqrt() * x0

    def plain() -> None:
        level = torch.randint(50, (64,)) * 20 + 19
        before = (level - 20).clamp(min=0)
        w = torch.rand(64)
        now, then = angle(level), angle(before)
        z = now.cos() * real + now.sin() * torch.randn_like(real)
        with torch.no_grad():
            t = (level / 999).clamp(max=0.99)
            x0, u0 = teacher(z, t, labels), teacher(z, t, torch.full((64,), 8))
            x0 = x0 + w[:, None] * (x0 - u0)
            eps = (z - now.cos() * x0) / now.sin()
            goal = f(target, then.cos() * x0 + then.sin() * eps, before, w)
        made = f(student, z, level, w)
        square = (made - goal) ** 2
        huber = square / ((square + 1e-6).sqrt() + 1e-3)
        proxy.requires_grad_(False)
        descend(for_student, huber.mean() - proxy(made, labels).mean())
        proxy.requires_grad_(True)
        with torch.no_grad():
            for slow, fast in zip(
                target.parameters(), student.parameters(), strict=True
            ):
                slow.lerp_(fast, 0.05)
        three = [made.detach(), goal, real]
        with torch.no_grad():
            wanted = torch.stack([expert(z, labels) for z in three], 1)
        found = torch.stack([proxy(z, labels) for z in three], 1)
        total = 0.0
        for pair in ([0, 1], [0, 2], [1, 2]):
            p, q = wanted[:, pair].log_softmax(1), found[:, pair].log_softmax(1)
            total = total + (p.exp() * (p - q)).sum() / 64
        descend(for_proxy, total)

    def ours() -> None:
        model.train_step(dict(inputs=real, targets=labels), wrappers)

    setting = "64 points of 8 classes"
    return Pair("RG-LCD", setting, model, twin, ours, plain)
