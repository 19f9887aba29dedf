"""Thresholds of classes, the folder of labels, pasting from it: by hand."""

import cv2
import numpy as np
import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.data.pseudo_labels import (
    LabelFolder,
    LoadPseudoLabels,
    PasteHardClasses,
    hard_class_weights,
    select,
)
from pld_mmdet.segmentation.hiast import update_threshold
from tests.segmentation.helpers import images_of

CONFIDENCES = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_update_threshold_by_hand(make):
    """Level 1 - 0.5 0.9^8 = 0.784766 of P and 0.9: 0.924668; theta 0.902467."""
    values = make(CONFIDENCES)
    assert update_threshold(values, 0.9) == pytest.approx(0.902467, abs=1e-6)
    easy = update_threshold(values, 0.9, alpha=0.2)
    assert easy == pytest.approx(0.906589, abs=1e-6)
    assert isinstance(easy, float)


def test_threshold_of_an_absent_class_stays_and_others_stay_below_one():
    assert update_threshold(torch.empty(0), 0.8765432198765) == 0.8765432198765
    theta = 0.9
    for _ in range(200):
        theta = update_threshold(np.ones(50), theta)
        assert theta < 1
    assert update_threshold(np.ones(5), 1.0) == 0.999
    assert update_threshold(CONFIDENCES, 0.9, beta=1.0) == 0.9  # constant


def test_level_uses_the_old_threshold():
    old = np.quantile([*CONFIDENCES, 0.5], 1 - 0.5 * 0.5**8)
    found = update_threshold(CONFIDENCES, 0.5)
    assert found == pytest.approx(0.9 * 0.5 + 0.1 * old)


def test_select_keeps_what_reaches_its_class():
    confidence = np.array([[0.5, 0.8, 0.9]], np.float32)
    labels, theta = np.array([[0, 0, 1]]), np.array([0.8, 0.95])
    assert select(confidence, labels, theta - 1e-6).tolist() == [[255, 0, 255]]
    assert (select(confidence, labels, np.ones(2)) == 255).all()


def test_hard_class_weights_by_hand():
    found = hard_class_weights(np.array([0.95, 0.9, 0.7, 0.5]))
    assert found == pytest.approx([0.007092, 0.028369, 0.255319, 0.709220], abs=1e-6)
    found = hard_class_weights(np.array([0.9, np.nan]))
    assert found.tolist() == [1, 0]


def test_small_maps_are_brought_to_whole_images(tmp_path):
    path = images_of(tmp_path, 1)[0]
    folder = LabelFolder(tmp_path / "labels")
    folder.folder.mkdir()
    small = np.array([[0, 1], [255, 2]], np.uint8)
    folder.write(path, small)
    image = cv2.imread(path)
    results = dict(img=image, img_path=path, seg_fields=[])
    with pytest.raises(UserError, match=r"\(2, 2\), the image is \(32, 64\)"):
        LoadPseudoLabels(str(folder.folder))(dict(results))
    found = LoadPseudoLabels(str(folder.folder), resize=True)(results)["gt_seg_map"]
    assert found.shape == (32, 64)
    assert found[::31, ::63].tolist() == small.tolist()


def paste_fixture(tmp_path, **kwargs):
    paths, folder = images_of(tmp_path), LabelFolder(tmp_path)
    maps = np.full((3, 32, 64), 255, np.uint8)
    maps[1, :8], maps[1, 8:12], maps[2, :, :5] = 1, 0, 2
    for path, labels in zip(paths, maps, strict=True):
        folder.write(path, labels)
    index = dict(
        confidence=[0.99, 0.6, 0.7, None],
        images=[[[256, paths[1]]], [[512, paths[1]]], [[160, paths[2]]], []],
    )
    folder.finish(index)
    paste = PasteHardClasses(
        str(tmp_path), load=[dict(type="LoadImageFromFile")], hard=2, **kwargs
    )
    here = dict(img=cv2.imread(paths[0]), gt_seg_map=maps[0].copy(), img_path=paths[0])
    return paste, here, [cv2.imread(path) for path in paths], maps


def test_pasted_pixels_come_from_one_donor_image_and_label(tmp_path):
    paste, here, images, maps = paste_fixture(tmp_path, times=1)
    before = here["img"].copy()
    found = paste(here)
    donor = 1 if (found["gt_seg_map"] == 1).any() else 2
    hard = np.isin(maps[donor], [1, 2])  # class 0 is sure of itself: never pasted
    assert (found["gt_seg_map"] == np.where(hard, maps[donor], 255)).all()
    expected = np.where(hard[..., None], images[donor], before)
    assert (found["img"] == expected).all()


def test_pasting_needs_complete_labels(tmp_path):
    paste, here, _, _ = paste_fixture(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(UserError, match="no complete pseudo-labels"):
        paste(here)
