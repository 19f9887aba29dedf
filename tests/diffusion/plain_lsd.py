"""LSD: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, descend
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper


def pair() -> Pair:
    """LSD: two steps on ring sequences."""
    ring = dict(type="pld_mmdet.RingLanguage", tokens=6, length=12)
    model = build("LSD", network=ring, steps=4, teacher_steps=16, zeta=0.1)
    twin = copy.deepcopy(model)
    start = torch.full((64, 12), 6)
    wrapper = FiniteOptimWrapper(torch.optim.SGD([model.phi], lr=0.01))
    optimizer = torch.optim.SGD([twin.phi], lr=0.01)
    score, e = twin.network.network, 1e-3

    def euler(x: Tensor, now: float, step: float, scale: float) -> tuple:
        s = score(x, now)
        move = step * (1 - e) / (1 - (1 - e) * now) * scale * s
        move = move / move.sum(-1, keepdim=True).clamp(min=1)
        drawn = (move.cumsum(-1) <= torch.rand(x.shape)[..., None]).sum(-1)
        return torch.where(x == 6, drawn, x), s

    @torch.no_grad()
    def path(x: Tensor, times: Tensor, scales: Tensor) -> list:
        seen = []
        for k, scale in enumerate(scales):
            step = (times[k] - times[k + 1]).item()
            following, s = euler(x, times[k].item(), step, scale)
            seen.append((x, s))
            x = following
        return seen

    def plain() -> None:
        teacher = path(start, torch.linspace(1, e, 17), torch.ones(16))
        places = torch.rand(64, 12).argsort(1)[:, :1]
        x = start.scatter(1, places, torch.randint(6, (64, 1)))
        kappa = torch.full((4,), (1 - e) / 4)
        times = torch.cat([torch.ones(1), 1 - kappa.cumsum(0)])
        student = path(x, times, twin.phi.detach())
        total = 0.0
        for k, (seen, s) in enumerate(student):
            goal_x, goal = teacher[4 * k]
            both = (seen == 6) & (goal_x == 6)
            error = (twin.phi[k] * s[both] - goal[both]).square().sum()
            total = total + error / both.sum()
        descend(optimizer, total)

    def ours() -> None:
        model.train_step(dict(inputs=start), wrapper)

    sides = lambda: (ours(), ours()), lambda: (plain(), plain())
    setting = "64 sequences of 12, 4 of 16 steps, 2 updates"
    return Pair("LSD", setting, model, twin, *sides, weightless=True)
