"""DisBack: two iterations with a snapshot as target, and plain torch."""

import copy

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """DisBack: the target is the first of two snapshots."""
    mlp = dict(type="pld_mmdet.TimeMLP", dim=64, width=640, depth=4)
    model = build(
        "DisBack",
        process=dict(type="pld_mmdet.EDMProcess"),
        denoiser=mlp,
        snapshots=(1, 2),
    )
    model._taught = True
    model.progress = Progress(step=5, steps=1000)
    # path[1] is the critic's beginning; all of them begin as one network
    for network in (model.path[0].network, model.critic.network):
        nn.init.normal_(network.last.weight, std=0.1)
    twin = copy.deepcopy(model)
    shape = torch.zeros(64, 64)
    critic = twin.critic.network
    wrappers = OptimWrapperDict(
        generator=FiniteOptimWrapper(sgd(model.generator)),
        critic=FiniteOptimWrapper(sgd(model.critic)),
    )
    for_generator, for_critic = sgd(twin.generator), sgd(twin.critic)
    sigmas, target = twin.process.sigmas, twin.path[0].network

    def denoise(net: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + 0.25
        raw = net(x / total.sqrt(), sigma[:, 0].log() / 4, None)
        return 0.25 / total * x + sigma * 0.5 / total.sqrt() * raw

    def noised(x: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
        sigma = sigmas[torch.randint(low, high, (64,))][:, None]
        return x + sigma * torch.randn_like(x), sigma

    def plain() -> None:
        noise = torch.randn_like(shape)
        torch.randint(1, (1,))  # ours chooses one of one step; the same dice
        fake = denoise(twin.generator, 80 * noise, sigmas[-1:].expand(64, 1))
        with torch.no_grad():
            x, sigma = noised(fake, 20, 981)
            d_target, d_fake = denoise(target, x, sigma), denoise(critic, x, sigma)
            scale = (fake - d_target).abs().mean(1, keepdim=True)
            goal = fake - (d_fake - d_target) / scale
        descend(for_generator, 0.5 * F.mse_loss(fake, goal))
        fake = fake.detach()
        x, sigma = noised(fake, 0, 1000)
        error = (denoise(critic, x, sigma) - fake) ** 2
        descend(for_critic, ((sigma**-2 + 4) * error).mean())

    def ours() -> None:
        model.train_step(dict(inputs=shape), wrappers)

    def two(one) -> None:
        one()
        one()

    sides = lambda: two(ours), lambda: two(plain)
    return Pair("DisBack", "64 vectors of 64, 2 iterations", model, twin, *sides)
