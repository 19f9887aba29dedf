"""KRR-ST: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from mmengine.optim import OptimWrapperDict
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper


def pair() -> Pair:
    """KRR-ST: an outer step, which moves the pairs, and an inner one."""
    shape, dim = (3, 16, 16), 1024
    widths = (128, 256, 256)
    network = dict(type="pld_mmdet.DistillConvNet", widths=widths)
    model = build(
        "KRRST",
        target=dict(network, image_shape=shape, outputs=1, standardise=True),
        network=network,
        image_shape=shape,
        target_dim=dim,
        size=32,
        pool_size=1,
    )
    model.synthetic.fill(torch.randn(32, *shape), torch.randn(32, dim))
    model.steps.zero_()
    twin = copy.deepcopy(model)
    real = torch.randn(32, *shape)
    parts = {"synthetic": model.synthetic, "pool.0": model.pool[0]}
    wrappers = OptimWrapperDict(
        **{name: FiniteOptimWrapper(sgd(part)) for name, part in parts.items()}
    )
    f, g, pairs = twin.pool[0], twin.target.network, twin.synthetic
    outer, inner = sgd(pairs), sgd(f)

    def step() -> None:
        f.eval()
        with torch.no_grad():
            query, wanted = F.pad(f.backbone(real), (0, 1), value=1), g.backbone(real)
        f.requires_grad_(False)
        point = F.pad(f.backbone(pairs.images), (0, 1), value=1)
        f.requires_grad_(True)
        kernel = point @ point.T
        ridge = 1e-6 * kernel.detach().trace() * torch.eye(32)
        guess = query @ point.T @ torch.linalg.solve(kernel + ridge, pairs.targets)
        descend(outer, F.mse_loss(guess, wanted))
        f.train()
        guess = f(pairs.images.detach())
        descend(inner, F.mse_loss(guess, pairs.targets.detach()))

    sides = (lambda: model.train_step(dict(inputs=real), wrappers)), step
    setting = "32 pairs and 32 images of 16 x 16"
    return Pair("KRR-ST", setting, model, twin, *sides)
