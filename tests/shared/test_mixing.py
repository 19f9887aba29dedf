"""Mixing: labels by the share that is left, boxes inside the image, nothing at 0."""

import numpy as np
import pytest
import torch

from pld_mmdet.shared.mixing import box_masks, cutmix, cutmix_box, mix, mixup


def test_mixup_blends_images_and_labels_alike():
    np.random.seed(0)
    torch.manual_seed(0)
    targets = torch.eye(5)
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 2)
    mixed, labels, lam = mixup(images, targets, alpha=0.4)
    assert 0 < lam < 1
    assert torch.allclose(labels.sum(1), torch.ones(5))
    assert torch.allclose(mixed[:, 0, 0, 0], labels @ torch.arange(5.0))
    assert torch.allclose(labels.diagonal().min(), torch.tensor(lam)) or lam < 0.5
    same, labels, lam = mixup(images, targets, alpha=0)
    assert lam == 1.0
    assert torch.equal(same, images)
    assert torch.equal(labels, targets)
    assert mixup(images[:0], targets[:0])[0].shape == (0, 1, 2, 2)


def test_cutmix_labels_follow_the_area_that_is_left():
    np.random.seed(1)
    torch.manual_seed(2)
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 7, 10)
    for _ in range(20):
        mixed, labels, lam = cutmix(images, torch.eye(6))
        share = (mixed == images).float().mean((1, 2, 3))
        other = labels.argmax(1) if lam < 0.5 else None
        moved = share < 1
        assert torch.allclose(share[moved], torch.tensor(lam), atol=1e-6)
        assert torch.allclose(
            mixed.mean((1, 2, 3)), labels @ torch.arange(6.0), atol=1e-5
        )
        assert other is None or moved.any()
    same, labels, lam = cutmix(images, torch.eye(6), alpha=0)
    assert lam == 1.0
    assert torch.equal(same, images)
    assert torch.equal(labels, torch.eye(6))


def test_a_box_has_the_images_shape_and_is_cut_off_at_its_borders():
    np.random.seed(0)
    boxes = np.array([cutmix_box((20, 40), 0.25) for _ in range(300)])
    tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert (tall.max(), wide.max()) == (10, 20)  # half of each side
    assert tall.min() >= 5
    assert wide.min() >= 10
    assert boxes.min() == 0
    assert (boxes[:, 1].max(), boxes[:, 3].max()) == (20, 40)
    top, bottom, left, right = cutmix_box((20, 40), 0.0)
    assert bottom - top == right - left == 0


def test_masks_choose_between_two():
    masks = box_masks(50, (20, 40), area=0.3)
    assert masks.float().mean().item() == pytest.approx(0.3, abs=0.02)
    ours, theirs = torch.zeros(50, 3, 20, 40), torch.ones(50, 3, 20, 40)
    assert torch.equal(mix(ours, theirs, masks)[:, 1], masks.float())
    assert torch.equal(mix(ours[:, 0], theirs[:, 0], masks), masks.float())
