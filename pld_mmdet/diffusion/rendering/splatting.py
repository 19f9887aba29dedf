"""Gaussians to pixels in plain torch: projected, sorted by depth, composited.

Dense (every Gaussian at every pixel), so it is for small pictures; where gsplat is
installed and the tensors are on a GPU, :func:`render` hands over to it.
"""

import math
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError

LOW_PASS = 0.3  # pixels^2, added to every projected covariance (3D-GS)
NEAR = 0.01
MOST = 0.99  # of one Gaussian's alpha (3D-GS)


class Gaussians(NamedTuple):
    """N Gaussians. What moves may have a dimension of views in front.

    Attributes:
        means: [N, 3] or [V, N, 3].
        rotations: Quaternions (w, x, y, z), of any length: [N, 4] or [V, N, 4].
        scales: Standard deviations along the own axes [N, 3].
        opacities: In [0, 1], [N].
        colours: [N, 3].
    """

    means: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor


def orbit(elevation: Tensor, azimuth: Tensor, radius: float) -> Tensor:
    """World-to-camera matrices of cameras that look at the origin.

    The world's y points up; at elevation and azimuth 0 the camera stands on the z axis.
    A camera looks along its own z, its x points right and its y down.

    Args:
        elevation: Degrees above the horizon [V].
        azimuth: Degrees to the right [V].
        radius: Distance to the origin.

    Returns:
        [V, 3, 4].
    """
    up, side = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    flat = up.cos()
    place = torch.stack([flat * side.sin(), up.sin(), flat * side.cos()], -1)
    forward = -place
    right = torch.stack([side.cos(), torch.zeros_like(side), -side.sin()], -1)
    down = torch.linalg.cross(forward, right)
    turn = torch.stack([right, down, forward], -2)
    shift = -(turn @ (radius * place)[..., None])
    return torch.cat([turn, shift], -1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """[..., 4] as (w, x, y, z), normalised here -> [..., 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def focal_length(size: int, fov: float) -> float:
    """Pixels, of a square picture that spans ``fov`` degrees."""
    return 0.5 * size / math.tan(math.radians(fov) / 2)


def composite(alphas: Tensor, colours: Tensor, background: float) -> Tensor:
    """Front to back: weight_i = alpha_i prod_{j < i} (1 - alpha_j).

    Args:
        alphas: Of Gaussians from front to back [V, N, P].
        colours: [V, N, 3].
        background: Grey value of what is left.

    Returns:
        Colour and alpha [V, 4, P].
    """
    left = torch.cumprod(1 - alphas, 1)
    before = torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], 1)
    weights = before * alphas
    opaque = weights.sum(1, keepdim=True)
    colour = torch.einsum("vnp,vnc->vcp", weights, colours)
    return torch.cat([colour + background * (1 - opaque), opaque], 1)


def render(
    gaussians: Gaussians,
    cameras: Tensor,
    size: int,
    fov: float,
    background: float = 1.0,
) -> Tensor:
    """Pictures of Gaussians [V, 4, size, size]: colour on the background, and alpha.

    Splatting of 3D Gaussian Splatting (Kerbl et al. 2023): the covariance is projected
    by the local affine map of the camera, ``J W S W' J' + 0.3 I``; a Gaussian's alpha
    at a pixel is ``o exp(-d' C^-1 d / 2)``, at most 0.99. The order of the Gaussians
    does not matter. Differentiable in everything but the order of depth.

    Args:
        gaussians: One set for all views, or one a view.
        cameras: World to camera [V, 3, 4].
        size: Height and width.
        fov: Of the picture, degrees.
        background: Grey value [white].
    """
    if cameras.dim() != 3 or cameras.shape[1:] != (3, 4):
        raise UserError(
            f"render: cameras are {tuple(cameras.shape)}.", "Give [V, 3, 4]."
        )
    views = len(cameras)
    means = gaussians.means.expand(views, -1, -1)
    rotations = gaussians.rotations.expand(views, -1, -1)
    if not (views and means.shape[1]):
        empty = means.new_full((views, 4, size, size), background)
        empty[:, 3] = 0
        return empty
    if means.is_cuda and find_spec("gsplat") is not None:
        moved = gaussians._replace(means=means, rotations=rotations)
        return by_gsplat(
            require("gsplat", "diffusion"), moved, cameras, size, fov, background
        )
    turn, shift = cameras[:, None, :, :3], cameras[:, None, :, 3]
    x, y, z = ((turn @ means[..., None])[..., 0] + shift).unbind(-1)
    seen, z = z > NEAR, z.clamp(min=NEAR)
    focal = focal_length(size, fov)
    centre = torch.stack([focal * x / z + size / 2, focal * y / z + size / 2], -1)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([focal / z, zero, -focal * x / z**2], -1),
            torch.stack([zero, focal / z, -focal * y / z**2], -1),
        ],
        -2,
    )
    half = jacobian @ turn @ rotation_matrices(rotations)
    half = half * gaussians.scales[..., None, :]
    spread = half @ half.transpose(-1, -2)
    a, b, c = spread[..., 0, 0] + LOW_PASS, spread[..., 0, 1], spread[..., 1, 1]
    c = c + LOW_PASS
    determinant = a * c - b * b
    pixels = torch.arange(size, device=z.device, dtype=z.dtype) + 0.5
    dx = pixels[None, None, None, :] - centre[..., 0, None, None]
    dy = pixels[None, None, :, None] - centre[..., 1, None, None]
    a, b, c = (v[..., None, None] for v in (a, b, c))
    power = c * dx**2 - 2 * b * dx * dy + a * dy**2
    alphas = torch.exp(-0.5 * power / determinant[..., None, None])
    alphas = (gaussians.opacities * seen)[..., None, None] * alphas
    order = z.argsort(1)
    alphas = alphas.clamp(max=MOST).flatten(2)
    alphas = alphas.gather(1, order[..., None].expand_as(alphas))
    colours = gaussians.colours.expand(views, -1, -1)
    colours = colours.gather(1, order[..., None].expand(-1, -1, 3))
    return composite(alphas, colours, background).unflatten(2, (size, size))


def by_gsplat(
    gsplat: ModuleType,
    gaussians: Gaussians,
    cameras: Tensor,
    size: int,
    fov: float,
    background: float,
) -> Tensor:
    """:func:`render` with gsplat's rasteriser (>= 1.0), view by view.

    Args:
        gsplat: The library.
        gaussians: With means and rotations of each view.
        cameras: [V, 3, 4].
        size: Height and width.
        fov: Degrees.
        background: Grey value.
    """
    focal = focal_length(size, fov)
    rows = [[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]
    lens = cameras.new_tensor(rows)[None]
    last = cameras.new_tensor([[[0, 0, 0, 1]]])
    grey = cameras.new_full((1, 3), background)
    pictures = []
    for means, turns, camera in zip(
        gaussians.means, gaussians.rotations, cameras, strict=True
    ):
        colour, alpha, _ = gsplat.rasterization(
            means,
            turns,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colours,
            torch.cat([camera[None], last], 1),
            lens,
            size,
            size,
            eps2d=LOW_PASS,
            backgrounds=grey,
        )
        pictures.append(torch.cat([colour, alpha], -1)[0].permute(2, 0, 1))
    return torch.stack(pictures)
