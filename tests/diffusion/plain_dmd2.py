"""DMD2: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, descend, sgd
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """DMD2: five iterations, in the first of which the generator has its turn."""
    mlp = dict(type="pld_mmdet.TimeMLP", dim=64, width=640, depth=4)
    model = build(
        "DMD2",
        process=dict(type="pld_mmdet.EDMProcess"),
        denoiser=mlp,
        head=dict(type="pld_mmdet.MLPHead", sizes=(640, 128)),
        bottleneck="features",
    )
    model._taught = True  # by weights that neither generator nor critic began as
    model.progress = Progress(step=4, steps=1000)
    twin = copy.deepcopy(model)
    real, n = torch.randn(64, 64), 64
    wrappers = OptimWrapperDict(
        generator=FiniteOptimWrapper(sgd(model.generator)),
        critic=FiniteOptimWrapper(sgd(model.critic)),
    )
    sigmas = twin.process.sigmas
    generator, critic, teacher = twin.generator, twin.critic, twin.real.network
    for_generator, for_critic = sgd(generator), sgd(critic)

    def denoise(net: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + 0.25
        raw = net(x / total.sqrt(), sigma[:, 0].log() / 4, None)
        return 0.25 / total * x + sigma * 0.5 / total.sqrt() * raw

    def noised(x: Tensor, low: int = 0, high: int = 1000) -> tuple[Tensor, Tensor]:
        sigma = sigmas[torch.randint(low, high, (n,))][:, None]
        return x + sigma * torch.randn_like(x), sigma

    def logits(x: Tensor) -> Tensor:
        x, sigma = noised(x)
        net, time = critic.network, sigma.log() / 4
        waves = time * net.octaves
        h = net.embed(torch.cat([time, waves.sin(), waves.cos()], 1))
        h = net.first(x / (sigma**2 + 0.25).sqrt()) + h
        for layer in net.layers:
            h = h + layer(h)
        return critic.head(net.features(h)).flatten()

    def iteration(turn: bool) -> None:
        noise = torch.randn_like(real)
        torch.randint(1, (1,))  # ours chooses one of one step; the same dice
        with torch.set_grad_enabled(turn):
            fake = denoise(generator, 80 * noise, sigmas[-1:].expand(n, 1))
        if turn:
            with torch.no_grad():
                x, sigma = noised(fake, 20, 981)
                d_real = denoise(teacher, x, sigma)
                d_fake = denoise(critic.network, x, sigma)
                scale = (fake - d_real).abs().mean(1, keepdim=True)
                goal = fake - (d_fake - d_real) / scale
            critic.requires_grad_(False)
            gan = F.softplus(-logits(fake)).mean()
            critic.requires_grad_(True)
            descend(for_generator, 0.5 * F.mse_loss(fake, goal) + 3e-3 * gan)
            fake = fake.detach()
        x, sigma = noised(fake)
        error = (denoise(critic.network, x, sigma) - fake) ** 2
        score = ((sigma**-2 + 4) * error).mean()
        told = F.softplus(logits(fake)).mean() + F.softplus(-logits(real)).mean()
        descend(for_critic, score + 1e-2 * told)

    def ours(turn: bool) -> None:
        model.progress.step += 1
        model.train_step(dict(inputs=real), wrappers)

    def five(one) -> None:
        for number in range(5):
            one(number == 0)

    sides = lambda: five(ours), lambda: five(iteration)
    setting = "64 vectors of 64, 5 iterations with 1 turn of the generator"
    return Pair("DMD2", setting, model, twin, *sides)
