"""4DGen: a coarse step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, ours, plain
from pld_mmdet.diffusion.rendering.splatting import Gaussians, orbit, render
from pld_mmdet.engine.run.progress import Progress


def pair() -> Pair:
    """4DGen: two views of 60 Gaussians."""
    field = dict(type="pld_mmdet.HexPlaneField", channels=16, resolution=32, width=128)
    model = build("Gen4D", field=field, count=60, size=24, perceptual=0.0)
    model.progress = Progress(stage="coarse")
    torch.nn.init.normal_(model.field.mlp[-1].weight, std=0.1)  # or nothing moves
    twin = copy.deepcopy(model)
    angles, time = torch.tensor([[0.0, 30.0], [0.0, 60.0]]), torch.tensor([0.0, 0.25])
    cameras = orbit(angles[0], angles[1], 2.5)
    images, clouds = torch.rand(2, 4, 24, 24), torch.rand(2, 50, 3) - 0.5
    video = torch.tensor([True, False])
    batch = dict(inputs=images, camera=cameras, time=time, video=video, points=clouds)
    pairs = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

    def loss():
        planes = list(twin.field.planes)
        at = (
            twin.means.expand(2, -1, -1),
            (2 * time - 1)[:, None, None].expand(2, 60, 1),
        )
        at = torch.cat(at, -1)
        features = []
        for level in range(4):
            made = 1.0
            for plane, (i, j) in zip(planes[6 * level :], pairs, strict=False):
                grid = at[..., [i, j]].reshape(1, 1, -1, 2)
                made = made * F.grid_sample(
                    plane, grid, align_corners=True, padding_mode="border"
                )
            features.append(made.reshape(16, 2, 60))
        move = twin.field.mlp(torch.cat(features).permute(1, 2, 0))
        means = twin.means + move[..., :3]
        parts = Gaussians(
            means,
            twin.turns + move[..., 3:],
            twin.scales.exp(),
            twin.opacities.sigmoid(),
            twin.colours.sigmoid(),
        )
        off = (render(parts, cameras, 24, 40.0) - images).abs().mean((1, 2, 3))
        total = (100 * off[0] + 10 * off[1]) / 2
        for p, q in zip(means, clouds, strict=True):
            d = ((p[:, None] - q[None]) ** 2).sum(-1)
            total = total + (d.min(1)[0].mean() + d.min(0)[0].mean()) / 2
        for k, plane in enumerate(planes):
            if k % 6 < 3:
                square = (
                    plane.diff(dim=2).square().sum() + plane.diff(dim=3).square().sum()
                )
            else:
                square = plane.diff(n=2, dim=2).square().sum()
            total = total + square / plane.numel()
        return total

    setting = "2 views of 24 x 24, 60 Gaussians"
    return Pair("4DGen", setting, model, twin, ours(model, batch), plain(twin, loss))
