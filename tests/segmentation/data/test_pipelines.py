"""Label maps, packed samples and mIoU, against mmsegmentation's own count."""

import cv2
import numpy as np
import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.segmentation.data.pipelines import (
    LoadInstanceIds,
    PackMaps,
    RandomSizedCrop,
)
from pld_mmdet.segmentation.networks.segmentors import build_segmentor, full_logits
from pld_mmdet.segmentation.scores.mean_iou import MeanIoU
from tests.segmentation.helpers import tiny_segmentor


def test_instance_ids_become_class_numbers(tmp_path):
    """A road (7), two cars (26000, 26001), a crowd of cars (26), static (4)."""
    ids = np.array([[7, 26000], [26001, 26], [4, 7]], np.uint16)
    cv2.imwrite(str(tmp_path / "ids.png"), ids)
    results = dict(seg_map_path=str(tmp_path / "ids.png"), seg_fields=[])
    load = LoadInstanceIds(["car", "road"])
    found = load(dict(results, seg_fields=[]))["gt_seg_map"]
    assert found.tolist() == [[1, 0], [0, 0], [255, 1]]
    groups = dict(vehicle=["car", "bus"], flat=["road"])
    load = LoadInstanceIds(["flat", "vehicle"], groups)
    found = load(dict(results, seg_fields=[]))["gt_seg_map"]
    assert found.tolist() == [[0, 1], [1, 1], [255, 0]]
    with pytest.raises(UserError, match="no class 'boat'"):
        LoadInstanceIds(["boat"])
    with pytest.raises(UserError, match="cannot be read: missing"):
        load(dict(seg_map_path=str(tmp_path / "none.png"), seg_fields=[]))
    cv2.imwrite(str(tmp_path / "ids.png"), np.full((3, 2, 3), 7, np.uint8))
    with pytest.raises(UserError, match="no one-channel image"):
        load(results)


def test_crop_cuts_image_and_labels_alike():
    np.random.seed(0)
    labels = np.arange(64 * 128, dtype=np.int32).reshape(64, 128) % 251
    image = np.repeat(labels[..., None], 3, 2).astype(np.uint8)
    crop = RandomSizedCrop(heights=(32, 32), size=(32, 64))
    found = crop(
        dict(img=image, gt_seg_map=labels.astype(np.uint8), seg_fields=["gt_seg_map"])
    )
    assert found["img"].shape == (32, 64, 3)
    assert (found["img"][..., 0] == found["gt_seg_map"]).all()


def test_a_sample_without_labels_says_so():
    image = np.zeros((2, 3, 3), np.uint8)
    sample = PackMaps()(dict(img=image, img_path="a/b.png"))
    assert not sample["labelled"]
    assert (sample["targets"] == 255).all()
    assert sample["inputs"].shape == (3, 2, 3)


def test_mean_iou_is_that_of_mmsegmentation():
    from mmseg.evaluation.metrics import IoUMetric

    draw = torch.Generator().manual_seed(0)
    predictions = torch.randint(3, (4, 8, 8), generator=draw)  # class 3 never occurs
    targets = torch.randint(3, (4, 8, 8), generator=draw)
    targets[:, 0] = 255
    ours = MeanIoU()
    ours.dataset_meta = dict(classes=["a", "b c", "d", "e"])
    ours.process({}, [dict(predictions=predictions, targets=targets)])
    found = ours.compute_metrics(ours.results)
    areas = [
        IoUMetric.intersect_and_union(p, t, 4, 255)
        for p, t in zip(predictions, targets, strict=True)
    ]
    inside, union, _, label = (sum(a) for a in zip(*areas, strict=True))
    iou = inside[:3] / union[:3]
    assert found["mIoU"] == pytest.approx(iou.mean().item())
    assert found["IoU/b_c"] == pytest.approx(iou[1].item())
    assert found["aAcc"] == pytest.approx((inside.sum() / label.sum()).item())
    assert "IoU/e" not in found


def test_full_logits_are_those_of_the_stock_segmentor():
    segmentor = build_segmentor(tiny_segmentor()).eval()
    images = torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8)
    with torch.no_grad():
        ours = full_logits(segmentor, images)
        data = segmentor.data_preprocessor(dict(inputs=list(images)))
        stock = segmentor.encode_decode(
            data["inputs"], [dict(img_shape=(32, 64), pad_shape=(32, 64))] * 2
        )
    torch.testing.assert_close(ours, stock)
