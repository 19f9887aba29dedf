"""Views of batches: each image its own draw, what bounds them, same seed same view."""

import pytest
import torch

from pld_mmdet.shared import views


def batch(n=64, channels=3, size=12, seed=0):
    dice = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=dice)


@pytest.mark.parametrize("view", [views.weak, views.strong, views.resized_crop])
def test_views_keep_shape_and_range_and_follow_the_seed(view):
    images = batch()
    torch.manual_seed(3)
    first = view(images)
    second = view(images)
    torch.manual_seed(3)
    assert torch.equal(view(images), first)
    assert not torch.equal(second, first)
    assert first.shape == images.shape
    assert 0 <= first.min() <= first.max() <= 1 + 1e-6
    assert view(images[:0]).shape == (0, 3, 12, 12)


def test_two_views_are_two_draws():
    torch.manual_seed(0)
    first, second = views.two_views(batch(), lambda x: x + torch.rand(()))
    assert not torch.equal(first, second)


def test_weak_is_a_window_of_the_reflected_image():
    torch.manual_seed(0)
    image = torch.arange(25.0).view(1, 1, 5, 5)
    found = views.weak(image.expand(400, 1, 5, 5), shift=1, flip=0.0)
    # the middle pixel is one of the nine around the image's
    assert set(found[:, 0, 2, 2].tolist()) == {6, 7, 8, 11, 12, 13, 16, 17, 18}
    moved = found[found[:, 0, 2, 2] == 6][0, 0]  # one down and right
    assert moved[0].tolist() == [6, 5, 6, 7, 8]
    same = views.weak(image, shift=0, flip=1.0)
    assert torch.equal(same, image.flip(-1))


def test_mirrors_as_often_as_asked():
    torch.manual_seed(0)
    image = torch.arange(3.0).view(1, 1, 1, 3).expand(2000, 1, 1, 3)
    found = views.mirrored(image, 0.2)[:, 0, 0, 0]
    assert set(found.tolist()) == {0, 2}
    assert (found == 2).float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_a_quarter_turn_and_a_scale():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 7] = 1.0  # right of the middle
    draw = iter([torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_uniform", lambda *_: next(draw))
        quarter = views.turned(image, degrees=90, scale=0.5)
        larger = views.turned(image, degrees=90, scale=0.5)
    place = divmod(int(quarter.flatten().argmax()), 9)
    assert place in ((1, 4), (7, 4))
    # 3 pixels from the middle become 4.5: between the last column's two neighbours
    assert larger[0, 0, 4, 8] > 0.2
    assert larger[0, 0, 4, 7] < 1e-6 or larger[0, 0, 4, 8] >= larger[0, 0, 4, 7]
    none = views.turned(image, degrees=0, scale=0)
    assert torch.allclose(none, image, atol=1e-5)


def test_colours_by_hand():
    image = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    with pytest.MonkeyPatch.context() as patch:
        # factors 1.2, 1 and 0.6
        patch.setattr(views, "_uniform", lambda *_: torch.tensor([[0.5, 0.0, -1.0]]))
        found = views.recoloured(image, 0.4)[0, :, 0, 0]
    bright = torch.tensor([0.24, 0.48, 0.72])
    luma = 0.299 * 0.24 + 0.587 * 0.48 + 0.114 * 0.72
    assert torch.allclose(found, luma + 0.6 * (bright - luma), atol=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_uniform", lambda *_: torch.tensor([[0.0, -0.5, 0.9]]))
        stripes = torch.tensor([0.1, 0.5]).view(1, 1, 1, 2)
        found = views.recoloured(stripes, 0.4)
    # contrast 0.8 about 0.3; one channel has no saturation
    assert torch.allclose(found.flatten(), torch.tensor([0.14, 0.46]), atol=1e-6)


def test_a_blank_square_has_its_size_and_may_be_cut_off():
    torch.manual_seed(0)
    found = views.blanked(torch.zeros(500, 2, 20, 10), side=0.5, value=0.7)
    areas = (found == 0.7).float().mean((1, 2, 3))
    assert areas.max().item() == pytest.approx(0.25)
    assert areas.min().item() >= 0.25 / 4 - 0.04
    assert torch.equal(found[:, 0], found[:, 1])


def test_a_whole_window_is_the_image():
    images = batch(3, size=8)
    found = views.resized_crop(images, area=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.allclose(found, images, atol=1e-5)


def test_windows_lie_inside_and_have_their_area():
    torch.manual_seed(1)
    size = 64
    place = torch.linspace(0, 1, size)
    image = torch.stack([place.expand(size, size), place[:, None].expand(size, size)])
    found = views.resized_crop(image.expand(200, 2, size, size), area=(0.2, 0.5))
    spread = found.amax((2, 3)) - found.amin((2, 3))
    areas = spread.prod(1)
    assert 0.17 < areas.min() < 0.25
    assert 0.45 < areas.max() < 0.53
    assert found.std((0, 2, 3)).min() > 0.2  # everywhere, not in the middle alone
