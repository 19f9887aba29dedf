"""Pseudo boxes of a run against a truth that is small enough to count by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.evaluation.pseudo_truth import PseudoTruthHook
from pld_mmdet.errors import UserError

GROUPS = dict(base=["a"], novel=["b"])


def boxes(rows, labels) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(rows).float().reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )


@pytest.fixture
def truth(tmp_path):
    """Image 1: an a and two b; image 2: nothing but a crowd."""
    rows = [
        dict(image_id=1, category_id=5, bbox=[0, 0, 10, 10]),
        dict(image_id=1, category_id=7, bbox=[50, 0, 20, 20]),
        dict(image_id=1, category_id=7, bbox=[0, 50, 20, 20]),
        dict(image_id=2, category_id=7, bbox=[0, 0, 20, 20], iscrowd=1),
    ]
    categories = [dict(id=5, name="a"), dict(id=7, name="b")]
    path = tmp_path / "hidden.json"
    path.write_text(json.dumps(dict(categories=categories, annotations=rows)))
    return path


class Stage:
    """A runner with what the hook looks at."""

    def __init__(self, folder, ann_file=None):
        self.work_dir, self.iter, self._resume = str(folder), 0, False
        self.model = SimpleNamespace(pseudo_boxes={})
        self.scalars = []
        self.visualizer = SimpleNamespace(
            add_scalars=lambda values, step: self.scalars.append((step, values))
        )
        inner = SimpleNamespace(ann_file=ann_file)
        self.train_dataloader = SimpleNamespace(dataset=SimpleNamespace(dataset=inner))

    def step(self, hook, matrix=None, **pseudo):
        self.model.pseudo_boxes = pseudo
        count = len(next(iter(pseudo.values())))
        samples = [
            DetDataSample(
                metainfo=dict(
                    img_id=n + 1,
                    ori_shape=(100, 100),
                    homography_matrix=np.eye(3) if matrix is None else matrix,
                )
            )
            for n in range(count)
        ]
        hook.after_train_iter(self, 0, dict(data_samples=dict(weak=samples)))
        self.iter += 1


def test_counted_by_hand(truth, tmp_path):
    hook, stage = PseudoTruthHook(str(truth), GROUPS, interval=1), Stage(tmp_path)
    known = boxes(
        # right a; b where an a is; right b; b where there is nothing
        [[0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 70, 19], [80, 80, 99, 99]],
        [0, 1, 1, 1],
    )
    unknown = boxes([[0, 50, 20, 70], [30, 30, 40, 40]], [3, 3])
    alone = boxes([[0, 0, 20, 20]], [1])  # on the crowd
    nothing = boxes([], [])
    stage.step(hook, known=[known, alone], unknown=[unknown, nothing])
    hook.after_train(stage)
    content = json.loads((tmp_path / "pseudo_truth.json").read_text())
    assert content["images"] == 2
    assert content["metrics"] == {
        "known/per_image": 2.5,
        "known/on_object": 0.6,
        "known/precision": 0.4,
        "known/recall": pytest.approx(2 / 3, abs=1e-6),
        "known/precision_base": 1.0,
        "known/recall_base": 1.0,
        "known/precision_novel": 0.25,
        "known/recall_novel": 0.5,
        "unknown/per_image": 1.0,
        "unknown/on_object": 0.5,
        "unknown/precision": 0.5,
        "unknown/recall": pytest.approx(1 / 3, abs=1e-6),
        "unknown/precision_base": 0.0,
        "unknown/recall_base": 0.0,
        "unknown/precision_novel": 0.5,
        "unknown/recall_novel": 0.5,
    }
    assert content["curve"] == [{"iteration": 1, **content["metrics"]}]
    assert stage.scalars[0][1]["truth/known/precision"] == 0.4


def test_boxes_come_back_from_a_flipped_and_scaled_view(truth, tmp_path):
    hook, stage = PseudoTruthHook(str(truth), GROUPS), Stage(tmp_path)
    # twice as large and mirrored: x -> 200 - 2 x
    matrix = np.array([[-2.0, 0, 200], [0, 2, 0], [0, 0, 1]])
    stage.step(hook, matrix, known=[boxes([[60, 0, 100, 40]], [1])])
    assert hook.summary(hook.total)["known/precision"] == 1.0


def test_kinds_of_candidates(truth, tmp_path):
    ann_file = tmp_path / "train.json"
    rows = [
        dict(image_id=1, bbox=[50, 0, 20, 20], kind="true"),
        dict(image_id=1, bbox=[0, 50, 20, 20], kind="true"),
        dict(image_id=1, bbox=[0, 50, 10, 10], kind="part"),
        dict(image_id=1, bbox=[0, 0, 10, 10]),  # a base box has no kind
    ]
    ann_file.write_text(json.dumps(dict(annotations=rows)))
    hook = PseudoTruthHook(str(truth), GROUPS, candidates=True, begin=1)
    stage = Stage(tmp_path, ann_file)
    hook.before_train(stage)
    stage.step(hook, novel=[boxes([[0, 50, 20, 70]], [1])])  # before `begin`
    stage.step(hook, novel=[boxes([[0, 50, 10, 60], [50, 0, 70, 20]], [1, 1])])
    found = hook.summary(hook.total)
    assert found["novel/kept_true"] == 0.5
    assert found["novel/kept_part"] == 1.0
    assert found["novel/precision"] == 0.5
    ann_file.write_text(json.dumps(dict(annotations=rows[3:])))
    with pytest.raises(UserError, match="says its kind"):
        hook.before_train(stage)


def test_no_box_at_all(truth, tmp_path):
    hook, stage = PseudoTruthHook(str(truth), GROUPS), Stage(tmp_path)
    stage.step(hook, known=[boxes([], [])])
    assert hook.summary(hook.total) == {
        "known/per_image": 0.0,
        "known/recall": 0.0,
        "known/recall_base": 0.0,
        "known/recall_novel": 0.0,
    }


def test_counts_survive_a_resume(truth, tmp_path):
    whole, stage = PseudoTruthHook(str(truth), GROUPS, interval=2), Stage(tmp_path)
    stage.step(whole, known=[boxes([[0, 0, 10, 10]], [0])])
    checkpoint = {}
    whole.before_save_checkpoint(stage, checkpoint)
    again = PseudoTruthHook(str(truth), GROUPS, interval=2)
    again.after_load_checkpoint(stage, checkpoint)
    assert not again.total  # weights were loaded, nothing was resumed
    stage._resume = True
    again.after_load_checkpoint(stage, checkpoint)
    for hook in (whole, again):
        stage.iter = 1
        stage.step(hook, known=[boxes([[0, 0, 10, 10]], [1])])
    assert again.total == whole.total
    assert again.curve == whole.curve
    assert again.curve[0]["known/precision"] == 0.5


def test_unknown_class_of_a_group(truth):
    with pytest.raises(UserError, match="'c', which is no class"):
        PseudoTruthHook(str(truth), dict(novel=["c"]))
