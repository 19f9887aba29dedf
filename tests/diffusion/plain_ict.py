"""iCT: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor

from pld_mmdet.benchmark.pairs import Pair, build, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """iCT: three steps in the middle of its curriculum."""
    mlp = dict(type="pld_mmdet.TimeMLP", dim=64, width=640, depth=4)
    model = build("ICT", network=mlp, s0=4, s1=32)
    model.progress = Progress(step=450, steps=1000)
    twin = copy.deepcopy(model)
    real = torch.randn(64, 64)
    wrapper = FiniteOptimWrapper(sgd(model.student))
    net = twin.student
    optimizer = sgd(net)

    def f(x: Tensor, s: Tensor) -> Tensor:
        s = s[:, None]
        total = (s**2 + 0.25).sqrt()
        raw = net(x / total, s[:, 0].log() / 4, None)
        return 0.25 / ((s - 0.002) ** 2 + 0.25) * x + 0.5 * (s - 0.002) / total * raw

    def plain() -> None:
        ramp = torch.linspace(0, 1, 9, dtype=torch.float64)  # 4, 8 intervals, ...
        low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
        sigma = ((low + ramp * (high - low)) ** 7).float()
        mass = torch.erf((sigma.double().log() + 1.1) / math.sqrt(8)).diff()
        i = torch.multinomial((mass / mass.sum()).float(), 64, replacement=True)
        noise = torch.randn_like(real)
        with torch.no_grad():
            goal = f(real + sigma[i][:, None] * noise, sigma[i])
        guess = f(real + sigma[i + 1][:, None] * noise, sigma[i + 1])
        c = 0.00054 * 8
        d2 = (guess - goal).square().sum(1)
        distance = d2 / ((d2 + c * c).sqrt() + c)
        descend(optimizer, (distance / (sigma.diff()[i])).mean())

    def ours() -> None:
        model.train_step(dict(inputs=real), wrapper)

    def three(one) -> None:
        for _ in range(3):
            one()

    sides = lambda: three(ours), lambda: three(plain)
    return Pair("iCT", "64 vectors of 64, 3 steps at N = 9", model, twin, *sides)
