"""Candidate files: what is refused; extras that reach the model beside their box."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from pld_mmdet.detection.open_vocabulary.candidates import (
    CandidateCocoDataset,
    LoadBoxExtras,
    PackCandidates,
    check_candidates,
)
from pld_mmdet.errors import UserError

CONTENT = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "bus"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 10], "area": 100},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 9,
            "bbox": [20, 5, 12, 20],
            "area": 0,
            "confidence": 1.0,
            "clip_score": 1.0,
            "thing_isBase": False,
            "segmentation": [[]],
        },
        {
            "id": 3,
            "image_id": 1,
            "category_id": 9,
            "bbox": [5, 5, 9, 9],
            "area": 0,
            "confidence": 0.6,
            "clip_score": 0.6,
            "thing_isBase": False,
        },
    ],
}


def dataset(tmp_path, content=CONTENT, pipeline=(), **kwargs):
    init_default_scope("mmdet")
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(content))
    for image in content["images"]:
        (tmp_path / image["file_name"]).touch()
    return CandidateCocoDataset(
        ann_file=str(path),
        metainfo=dict(classes=("cat", "bus")),
        data_prefix=dict(img=str(tmp_path)),
        pipeline=list(pipeline),
        **kwargs,
    )


def test_extras_stay_beside_their_boxes(tmp_path):
    """Through flip and resize, packing, collating and the preprocessor's way."""
    import mmcv

    mmcv.imwrite(np.zeros((30, 40, 3), np.uint8), str(tmp_path / "a.png"))
    branch = [dict(type="pld_mmdet.PackCandidates", meta_keys=("img_path", "flip"))]
    data = dataset(
        tmp_path,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="pld_mmdet.LoadBoxExtras"),
            dict(type="RandomChoiceResize", scales=[(80, 60)], keep_ratio=True),
            dict(type="RandomFlip", prob=1.0),
            dict(
                type="MultiBranch",
                branch_field=["weak", "strong"],
                weak=branch,
                strong=branch,
            ),
        ],
    )
    batch = pseudo_collate([data[0]])
    for view in ("weak", "strong"):
        truth = batch["data_samples"][view][0].gt_instances
        assert truth.is_base.tolist() == [True, False, False]
        assert truth.is_base.dtype == torch.bool
        assert torch.allclose(truth.confidence, torch.tensor([1.0, 1.0, 0.6]))
        assert truth.labels.tolist() == [0, 1, 1]
        assert torch.allclose(
            truth.bboxes.tensor[0], torch.tensor([58.0, 4.0, 78.0, 24.0])
        )


def test_a_missing_image_is_found_before_training(tmp_path):
    second = dict(CONTENT["images"][0], id=2, file_name="b.png")
    content = dict(CONTENT, images=[*CONTENT["images"], second])
    data = dataset(tmp_path, content)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of its 2 images are missing.*b\.png"):
        data.load_data_list()


def test_which_candidates_are_read(tmp_path):
    instances = dataset(tmp_path).get_data_info(0)["instances"]
    assert [i["clip_score"] for i in instances] == [1.0, 1.0, 0.6]
    few = dataset(tmp_path, min_confidence=0.9).get_data_info(0)["instances"]
    assert len(few) == 2
    base = dataset(tmp_path, base_only=True).get_data_info(0)["instances"]
    assert [i["is_base"] for i in base] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(category_id=3), "category id 3"),
        (dict(image_id=5), "image id 5"),
        (dict(confidence=1.2), "confidence 1.2"),
        (dict(clip_score=-0.1), "clip_score -0.1"),
        (dict(clip_score=float("nan")), "clip_score nan"),
        (dict(bbox=[50, 0, 5, 5]), "outside its image"),
        (dict(bbox=[-9, 0, 5, 5]), "outside its image"),
        (dict(bbox=[3, 0, 0, 5]), "without area"),
        (dict(bbox=[3, 0, float("inf"), 5]), "has the box"),
    ],
)
def test_bad_annotations_are_named(change, message):
    content = copy.deepcopy(CONTENT)
    content["annotations"][2].update(change)
    with pytest.raises(UserError, match=message) as info:
        check_candidates(content, "file.json")
    assert "file.json: annotation 3" in str(info.value)


def test_candidate_without_confidence(tmp_path):
    content = copy.deepcopy(CONTENT)
    del content["annotations"][2]["confidence"]
    with pytest.raises(UserError, match="without a confidence"):
        dataset(tmp_path, content)


def test_boxes_that_a_transform_dropped_are_noticed():
    results = LoadBoxExtras().transform(
        {"instances": [dict(confidence=1.0, clip_score=1.0, is_base=True)] * 2}
    )
    results.update(img_path="a.png", gt_bboxes=np.zeros((1, 4), np.float32))
    with pytest.raises(UserError, match="1 boxes but 2 values"):
        PackCandidates().transform(results)
    with pytest.raises(UserError, match="1 boxes but no values"):
        PackCandidates().transform(dict(gt_bboxes=np.zeros((1, 4), np.float32)))
