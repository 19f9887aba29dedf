"""SPARSE: a step with all turns and the shortest loop of plain torch."""

import copy

import numpy as np
import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress

K, N = 4, 8
NAMES = ("generator", "discriminator", "classifier")


def pair() -> Pair:
    """SPARSE: labels, votes, critic, translator and classifier in one step."""
    model = build(
        "SPARSE",
        generator=dict(type="pld_mmdet.AttentionUNet", num_classes=K, widths=(16, 64)),
        discriminator=dict(
            type="pld_mmdet.ClassCritic", num_classes=K, image_size=16, widths=(64, 64)
        ),
        classifier=dict(conv_net(64, 256, 384), num_classes=K),
        num_classes=K,
        num_samples=2 * N,
        interval=1,
        quantile=0.5,
    )
    model.progress = Progress(steps=10)
    twin = copy.deepcopy(model)
    wrappers = OptimWrapperDict(
        **{name: FiniteOptimWrapper(sgd(getattr(model, name))) for name in NAMES}
    )
    steps = {name: sgd(getattr(twin, name)) for name in NAMES}
    g, d, c = twin.generator, twin.discriminator, twin.classifier
    looks = dict(generator=g, discriminator=lambda x: d(x)[1], classifier=c)
    images = torch.rand(2 * N, 3, 16, 16)
    targets = torch.cat([torch.arange(N) % K, torch.full((N,), -1)])
    state = dict(memory=torch.zeros(N, K))

    def surprise(p: Tensor) -> Tensor:
        return -(p * p.log()).sum(1)

    def soft(z: Tensor, target: Tensor) -> Tensor:
        return -(target * z.log_softmax(1)).sum(1).mean()

    def labelled(x: Tensor, y: Tensor) -> None:
        z = {name: look(x) for name, look in looks.items()}
        hard = F.one_hot(y, K).float()
        for name in NAMES:
            others = [z[o].detach().softmax(1) for o in NAMES if o != name]
            mean = (others[0] + others[1]) / 2
            p, q = z[name].softmax(1), (z[name] / 0.1).softmax(1)
            means = hard.T @ q.detach() / hard.sum(0)[:, None]
            near = -((q[:, None] - means) ** 2).sum(2)
            apart = (mean * (mean.log() - p.log())).sum(1).mean()
            lam, other = float(np.random.beta(0.2, 0.2)), torch.randperm(N)
            mixed = looks[name](lam * x + (1 - lam) * x[other])
            loss = F.cross_entropy(near, y)
            loss = loss + 0.1 * (F.cross_entropy(z[name], y) + 0.5 * apart)
            loss = loss + 0.01 * surprise(p).mean()
            loss = loss + 0.5 * soft(mixed, lam * hard + (1 - lam) * hard[other])
            descend(steps[name], loss)

    def chosen(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            p = [(z / 2).softmax(1) for z in (d(x)[1], c(x))]
            sure = [1 - surprise(one)[:, None] / np.log(K) for one in p]
            vote = (sure[0] * p[0] + sure[1] * p[1]) / (sure[0] + sure[1])
            old = state["memory"]
            ens = 0.6 * vote + 0.4 * old if old.any() else vote
            state["memory"] = 0.99 * old + 0.01 * ens if old.any() else ens
            best = ens.max(1).values
            keep = best > best.quantile(0.5)
        return x[keep], ens.argmax(1)[keep]

    def iteration() -> None:
        labelled(images[:N], targets[:N])
        x, y = chosen(images[N:])
        z = torch.randint(K, (len(x),))
        with torch.no_grad():
            fake = g.translate(x, z)
        score, logits = d(x)
        told = d(fake)[0].mean() - score.mean() + F.cross_entropy(logits, y)
        # ours draws the places before it looks at x; no other dice are between
        place = torch.rand(len(x), 1, 1, 1)
        between = (place * x + (1 - place) * fake).requires_grad_(True)
        slope = torch.autograd.grad(d(between)[0].sum(), between, create_graph=True)[0]
        penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        descend(steps["discriminator"], told + 10 * penalty)
        fake = g.translate(x, z)
        d.requires_grad_(False)
        score, logits = d(fake)
        d.requires_grad_(True)
        back = g.translate(fake, y)
        of_class = F.cross_entropy(logits, z) + F.cross_entropy(g(fake), z)
        loss = -score.mean() + of_class + 10 * (back - x).abs().mean()
        descend(steps["generator"], loss)
        with torch.no_grad():
            fake = g.translate(x, z)
        descend(steps["classifier"], F.cross_entropy(c(fake), z))

    batch = dict(inputs=images, targets=targets, index=torch.arange(-N, N))
    ours = lambda: model.train_step(batch, wrappers)  # noqa: E731
    return Pair(
        "SPARSE",
        "8 images of 16 x 16 with labels, 8 without",
        model,
        twin,
        ours,
        iteration,
        kept_apart=("memory.rows",),
    )
