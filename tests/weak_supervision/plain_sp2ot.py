"""SP²OT: a step of ours and the shortest loop of plain torch."""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """SP2OT with the toy's transport, in the first half of the run."""
    images, rows, clusters, top = 532, 256, 10, 10
    model = build(
        "SP2OT",
        backbone=dict(type="pld_mmdet.MLP", sizes=(64, 1024, 1024, 128)),
        num_clusters=clusters,
        feat_dim=128,
        num_samples=images,
        lambda0=91.0,
        top_k=top,
        rounds=10,
        max_iterations=200,
    )
    torch.nn.init.normal_(model.head.prototypes)
    features = torch.randn(images, 8)
    near = (-torch.cdist(features, features).square() / 16).exp().fill_diagonal_(0)
    values, places = near.topk(top, 1)
    model.similarity.copy_(values)
    model.neighbours.copy_(places)
    twin = copy.deepcopy(model)
    views = torch.randn(2, rows, 64)
    index = torch.randperm(images)[:rows]
    whole = torch.zeros_like(near).scatter_(1, places, values)
    scalings: list[Tensor | None] = [None, None]
    time = 300

    def transport(cost: Tensor, rho: float, b: Tensor | None) -> tuple[Tensor, Tensor]:
        """P2OT by scaling; a column of cost 0 takes the mass that is left."""
        kernel = F.pad(-cost / 0.1, (0, 1)).exp()
        target = torch.full((clusters + 1,), rho / clusters, dtype=torch.double)
        power = torch.full_like(target, 1 / 1.1)
        target[-1], power[-1] = 1 - rho, 1
        b = torch.ones_like(target) if b is None else b
        for _ in range(200):
            before = b
            a = 1 / rows / (kernel @ b)
            b = (target / (a @ kernel)) ** power
            if ((b - before).abs() <= 1e-6 * b).all():
                break
        a = 1 / rows / (kernel @ b)
        return (a[:, None] * kernel * b)[:, :-1], b

    def objective(q: Tensor, cost: Tensor, s: Tensor, rho: float, lam: float) -> Tensor:
        rest = (1 / rows - q.sum(1)).clamp(min=0)
        minus_h = torch.xlogy(q, q).sum() + torch.xlogy(rest, rest).sum()
        mass, even = q.sum(0), rho / clusters
        kl = (torch.xlogy(mass, mass / even) - mass + even).sum()
        return (cost * q).sum() + 0.1 * minus_h + kl - lam * (q * (s @ q)).sum()

    @torch.no_grad()
    def label(logits: Tensor, s: Tensor, rho: float, view: int) -> Tensor:
        cost, lam = -logits.double().log_softmax(1), (1 - rho) * 91
        q, value = torch.full_like(cost, rho / cost.numel()), math.inf
        both = lam * (s + s.T)
        for _ in range(10):
            q, scalings[view] = transport(cost - both @ q, rho, scalings[view])
            before, value = value, objective(q, cost, s, rho, lam).item()
            if abs(before - value) < 1e-6:
                break
        return rows * q.float()

    def mathematics() -> Tensor:
        nonlocal time
        rho = 0.1 + 0.9 * math.exp(-5 * (1 - time / 1000) ** 2)
        time += 1
        s = whole[index][:, index].double()
        one, two = (twin.head(twin.backbone(view)) for view in views)
        q1, q2 = label(one, s, rho, 0), label(two, s, rho, 1)
        return F.cross_entropy(one, q2) + F.cross_entropy(two, q1)

    batch = dict(view1=views[0], view2=views[1], index=index)
    model.progress = Progress(step=299, steps=1000)
    train_step = ours(model, batch)

    def step() -> None:
        model.progress.step += 1
        train_step()

    sides = step, plain(twin, mathematics)
    apart = ("potentials",)
    return Pair(
        "SP2OT", f"{rows} rows, {clusters} clusters", model, twin, *sides, apart
    )
