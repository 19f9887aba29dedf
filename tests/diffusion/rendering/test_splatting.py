"""Splatting by hand and by finite differences, and what gsplat is given."""

import math
import types

import pytest
import torch

from pld_mmdet.diffusion.rendering import splatting
from pld_mmdet.diffusion.rendering.splatting import (
    Gaussians,
    composite,
    focal_length,
    orbit,
    render,
    rotation_matrices,
)
from pld_mmdet.errors import UserError


def cloud(count=5, dtype=torch.float64):
    torch.manual_seed(3)
    return Gaussians(
        0.4 * torch.randn(count, 3, dtype=dtype),
        torch.randn(count, 4, dtype=dtype),
        0.1 + 0.2 * torch.rand(count, 3, dtype=dtype),
        0.2 + 0.6 * torch.rand(count, dtype=dtype),
        torch.rand(count, 3, dtype=dtype),
    )


def front(dtype=torch.float64):
    zero = torch.zeros(1, dtype=dtype)
    return orbit(zero, zero, 2.5)


def test_compositing_by_hand():
    alphas = torch.tensor([0.5, 0.4, 0.9])[None, :, None]
    colours = torch.eye(3)[None]
    found = composite(alphas, colours, 1.0)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([0.53, 0.23, 0.3, 0.97]))
    two = composite(torch.tensor([0.6, 0.5])[None, :, None], colours[:, :2], 0.0)
    torch.testing.assert_close(two[0, :, 0], torch.tensor([0.6, 0.2, 0.0, 0.8]))


def test_one_gaussian_is_where_it_should_be():
    # odd size: a pixel's centre lies on the axis
    one = Gaussians(
        torch.tensor([[0.0, 0, 0]]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([[0.05, 0.05, 0.05]]),
        torch.tensor([0.7]),
        torch.tensor([[0.2, 0.4, 0.9]]),
    )
    camera = front(torch.float32)
    picture = render(one, camera, 9, 40.0)[0]
    assert picture[3, 4, 4].item() == pytest.approx(0.7)
    assert picture[0, 4, 4].item() == pytest.approx(0.7 * 0.2 + 0.3)
    variance = (focal_length(9, 40.0) * 0.05 / 2.5) ** 2 + 0.3
    beside = 0.7 * math.exp(-0.5 / variance)
    assert picture[3, 4, 5].item() == pytest.approx(beside, rel=1e-5)
    # right is +x, up is +y, and from the right side (90 degrees) -z is on the right
    for move, place in (((0.4, 0, 0), (4, 6)), ((0, 0.4, 0), (2, 4))):
        moved = one._replace(means=torch.tensor([move]))
        seen = render(moved, camera, 9, 40.0)[0, 3]
        assert divmod(int(seen.argmax()), 9) == place
    side = orbit(torch.tensor([0.0]), torch.tensor([90.0]), 2.5)
    moved = one._replace(means=torch.tensor([[0, 0, -0.4]]))
    assert divmod(int(render(moved, side, 9, 40.0)[0, 3].argmax()), 9) == (4, 6)
    above = orbit(torch.tensor([89.0]), torch.tensor([0.0]), 2.5)
    assert divmod(int(render(moved, above, 9, 40.0)[0, 3].argmax()), 9) == (2, 4)
    # behind the camera, nobody, or no camera
    behind = one._replace(means=torch.tensor([[0.0, 0, 4]]))
    assert render(behind, camera, 9, 40.0)[0, 3].max() == 0
    nobody = Gaussians(*(part[:0] for part in one))
    assert render(nobody, camera, 9, 40.0)[0, :, 0, 0].tolist() == [1, 1, 1, 0]
    assert render(one, camera[:0], 9, 40.0).shape == (0, 4, 9, 9)
    with pytest.raises(UserError, match="cameras are"):
        render(one, camera[0], 9, 40.0)


def test_the_nearer_gaussian_covers_the_other():
    pair = Gaussians(
        torch.tensor([[0.0, 0, -0.5], [0, 0, 0.5]]),
        torch.tensor([[1.0, 0, 0, 0]]).repeat(2, 1),
        torch.full((2, 3), 0.3),
        torch.tensor([0.5, 0.6]),
        torch.tensor([[1.0, 0, 0], [0, 1, 0]]),
    )
    picture = render(pair, front(torch.float32), 9, 40.0, background=0.0)[0, :, 4, 4]
    torch.testing.assert_close(picture, torch.tensor([0.2, 0.6, 0.0, 0.8]))
    swapped = Gaussians(*(part.flip(0) for part in pair))
    back = render(swapped, front(torch.float32), 9, 40.0, background=0.0)
    torch.testing.assert_close(back[0, :, 4, 4], picture)


def test_the_splatter_against_finite_differences():
    parts = [part.requires_grad_() for part in cloud(3)]
    cameras = orbit(
        torch.tensor([10.0, -20.0]).double(), torch.tensor([30.0, 200.0]).double(), 2.5
    )

    def pictures(*parts):
        return render(Gaussians(*parts), cameras, 3, 40.0)

    assert torch.autograd.gradcheck(pictures, parts)
    turns = rotation_matrices(parts[1])
    torch.testing.assert_close(turns.det(), torch.ones(3).double())


def test_gsplat_gets_what_it_expects(monkeypatch):
    """A stand-in with gsplat's layout that draws with ours."""
    calls = []

    def rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height, **more
    ):
        assert viewmats.shape == (1, 4, 4)
        assert Ks.shape == (1, 3, 3)
        fov = math.degrees(2 * math.atan(width / 2 / Ks[0, 0, 0].item()))
        calls.append(more["eps2d"])
        parts = Gaussians(means, quats, scales, opacities, colors)
        grey = more["backgrounds"][0, 0].item()
        drawn = render(parts, viewmats[:, :3], width, fov, grey).permute(0, 2, 3, 1)
        return drawn[..., :3], drawn[..., 3:], {}

    parts = cloud()
    cameras = torch.cat([front(), orbit(torch.ones(1) * 30, torch.ones(1), 2.5)])
    ours = render(parts, cameras, 6, 40.0, 0.5)
    twice = parts._replace(
        means=parts.means.expand(2, -1, -1), rotations=parts.rotations.expand(2, -1, -1)
    )
    library = types.SimpleNamespace(rasterization=rasterization)
    found = splatting.by_gsplat(library, twice, cameras, 6, 40.0, 0.5)
    torch.testing.assert_close(found, ours)
    assert calls == [0.3, 0.3]
