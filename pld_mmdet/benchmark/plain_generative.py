"""Distilled data, masked images, diffusion: ours and the shortest loop of torch."""

import copy

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, descend, ours, plain, sgd, step_case
from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.progress import Progress


@step_case
def krr_st_step() -> Pair:
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


@step_case
def dmae_step() -> Pair:
    """DMAE: 16 of 64 patches are visible, the teacher stops at three quarters."""
    vit = dict(type="pld_mmdet.MaskedViT", image_size=32, patch_size=4, heads=4)
    model = build(
        "DMAE",
        student=dict(vit, dim=128, depth=4),
        decoder=dict(type="pld_mmdet.MAEDecoder", dim=64, depth=2, heads=4),
        teacher=dict(vit, dim=192, depth=8),
        aligned=[(2, 5)],
        mean=0.4,
        std=0.3,
    )
    twin = copy.deepcopy(model)
    inputs = torch.rand(32, 3, 32, 32)
    student, teacher = twin.student, twin.teacher.network

    def embed(net: nn.Module, x: Tensor, keep: Tensor) -> Tensor:
        tokens = net.patch_embed(x) + net.pos_embed[:, 1:]
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
        first = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, tokens], 1)

    def run(blocks: nn.ModuleList, tokens: Tensor) -> Tensor:
        for block in blocks:
            tokens = block(tokens)
        return tokens

    def mathematics() -> Tensor:
        x = (inputs - 0.4) / 0.3
        keep = torch.rand(32, 64).argsort(1)[:, :16]
        z_s = run(student.blocks[:3], embed(student, x, keep))
        guess = twin.decoder(student.norm(run(student.blocks[3:], z_s)), keep)
        pixels = x.unfold(2, 4, 4).unfold(3, 4, 4)  # N x C x rows x columns x 4 x 4
        pixels = pixels.permute(0, 2, 3, 4, 5, 1).reshape(guess.shape)
        hidden = torch.ones(32, 64).scatter_(1, keep, 0)
        error = ((guess - pixels) ** 2).mean(2)
        with torch.no_grad():
            z_t = run(teacher.blocks[:6], embed(teacher, x, keep))
        ours, theirs = F.normalize(twin.project[0](z_s), dim=2), F.normalize(z_t, dim=2)
        return (error * hidden).sum() / hidden.sum() + F.l1_loss(ours, theirs)

    sides = ours(model, dict(inputs=inputs)), plain(twin, mathematics)
    return Pair("DMAE", "32 images of 32 x 32", model, twin, *sides)


@step_case
def dmd2_step() -> Pair:
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
