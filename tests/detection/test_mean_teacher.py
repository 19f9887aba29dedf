"""Mean Teacher: source-free by construction, two networks in one state dict."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pld_mmdet.detection.mean_teacher import (
    MeanTeacherSFOD,
    _supervised_sample,
)
from pld_mmdet.detection.pseudo_labels.labeller import score_sums
from pld_mmdet.errors import UserError
from tests.detection.helpers import (
    batch_of,
    fresh,
    give_confidence,
    unlike_the_teacher,
)
from tests.helpers import tiny_faster_rcnn


def build(**kwargs):
    torch.manual_seed(0)
    model = MeanTeacherSFOD(tiny_faster_rcnn(), **{"hpl_threshold": 0.5, **kwargs})
    model.init_weights()
    give_confidence(model)
    return model.train()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def test_both_networks_start_equal_and_the_teacher_stays_in_eval_mode():
    model = MeanTeacherSFOD(tiny_faster_rcnn())
    assert equal(model.student.state_dict(), model.teacher.state_dict())
    model.init_weights()
    assert equal(model.student.state_dict(), model.teacher.state_dict())
    model.train()
    assert model.student.training
    assert not any(m.training for m in model.teacher.modules())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_plain_checkpoint_fills_both_and_own_checkpoint_restores_each():
    model = build()
    plain = {k: torch.full_like(v, 2) for k, v in model.student.state_dict().items()}
    model.load_state_dict(plain, strict=True)
    assert equal(model.student.state_dict(), plain)
    assert equal(model.teacher.state_dict(), plain)
    with torch.no_grad():
        model.student.backbone.conv1.weight.add_(1.0)
    other = build()
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    assert equal(other.state_dict(), model.state_dict())
    assert not torch.equal(
        other.student.backbone.conv1.weight, other.teacher.backbone.conv1.weight
    )


def test_one_step_moves_the_student_only():
    model = build()
    teacher = copy.deepcopy(model.teacher.state_dict())
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.1
    )
    total, _ = model.parse_losses(fresh(model, batch_of(2)))
    total.backward()
    optimizer.step()
    assert equal(model.teacher.state_dict(), teacher)
    assert not equal(model.student.state_dict(), teacher)
    assert model.pseudo_counts["high"].shape == (3,)


def test_predict_on_names_the_result():
    model = build(predict_on="student").eval()
    with torch.no_grad():
        model.student.roi_head.bbox_head.fc_cls.bias[:3].sub_(50.0)  # sees nothing
    batch = batch_of(1)
    data = dict(
        inputs=batch["inputs"]["weak"], data_samples=batch["data_samples"]["weak"]
    )
    assert len(model.test_step(copy.deepcopy(data))[0].pred_instances) == 0
    model.predict_on = "teacher"
    assert len(model.test_step(data)[0].pred_instances) > 0
    with pytest.raises(UserError, match="names no network"):
        build(predict_on="both")


def test_pseudo_boxes_follow_the_geometry_of_the_strong_view():
    model = build()
    seen = {}

    def spy(inputs, samples):
        seen.update(
            boxes=samples[0].gt_instances.bboxes, labels=samples[0].gt_instances.labels
        )
        return dict(loss_cls=inputs.sum() * 0)

    model.student.loss = spy
    fresh(model, batch_of(1))
    straight = seen["boxes"]
    fresh(model, batch_of(1, flip_strong=True))
    assert len(straight) > 0
    assert torch.allclose(seen["boxes"][:, 0], 64 - straight[:, 2], atol=1e-3)
    assert torch.allclose(seen["boxes"][:, 1], straight[:, 1], atol=1e-3)


def test_other_geometry_without_matrices_is_an_error():
    model = build()
    batch = batch_of(1, flip_strong=True)
    for samples in batch["data_samples"].values():
        samples[0].set_metainfo(dict(homography_matrix=None))
    with pytest.raises(UserError, match="homography_matrix"):
        fresh(model, batch)
    batch = batch_of(1)
    for samples in batch["data_samples"].values():
        samples[0].set_metainfo(dict(homography_matrix=None))
    assert np.isfinite(float(model.parse_losses(fresh(model, batch))[0]))


def test_the_student_learns_what_the_teacher_sees():
    """Networks that differ: boxes of one, stock losses of the other."""
    model = build()
    unlike_the_teacher(model)
    data = model.data_preprocessor(batch_of(2, flip_strong=True), training=True)
    weak, strong = (
        (data["inputs"][view], data["data_samples"][view])
        for view in ("weak", "strong")
    )
    truth = []
    for found, sample in zip(
        model.teacher.predict(*weak, rescale=False), strong[1], strict=True
    ):
        sure = found.pred_instances[found.pred_instances.scores > 0.5]
        assert 0 < len(sure) < len(found.pred_instances)
        x1, y1, x2, y2 = sure.bboxes.unbind(1)
        boxes = torch.stack([64 - x2, y1, 64 - x1, y2], 1)
        truth.append(
            DetDataSample(
                metainfo=sample.metainfo,
                gt_instances=InstanceData(bboxes=boxes, labels=sure.labels),
            )
        )
    torch.manual_seed(1)
    expected = model.student.loss(strong[0], truth)
    torch.manual_seed(1)
    losses = model.loss(data["inputs"], data["data_samples"])
    assert losses.keys() == expected.keys()
    values = model.parse_losses(losses)[1]
    for name, value in model.parse_losses(expected)[1].items():
        assert torch.allclose(values[name], value, rtol=1e-4), name
    counts = torch.bincount(torch.cat([t.gt_instances.labels for t in truth]))
    assert torch.equal(model.pseudo_counts["high"][: len(counts)], counts / 2)


def test_boxes_of_the_teacher_end_at_the_edges_of_the_image(monkeypatch):
    model = build()
    found = InstanceData(
        bboxes=torch.tensor([[-5.0, 3, 20, 70], [70.0, 3, 90, 20], [3.0, 3, 9, 9]]),
        labels=torch.tensor([2, 1, 0]),
        scores=torch.tensor([0.9, 0.9, 0.4]),
    )
    seen = DetDataSample(pred_instances=found)
    monkeypatch.setattr(model.teacher, "predict", lambda *args, **_: [seen])
    data = model.data_preprocessor(batch_of(1), training=True)
    views = data["inputs"]["weak"], data["data_samples"]["weak"]
    (high,) = model.pseudo_labels(*views).high
    assert high.bboxes.tolist() == [[0, 3, 20, 64]]
    assert high.labels.tolist() == [2]
    assert model.pseudo_scores[2] == 3  # what was seen, wherever it lay


def test_sums_of_all_scores():
    found = [
        InstanceData(scores=torch.tensor([0.25, 1.0, 0.0])),
        InstanceData(scores=torch.zeros(0)),
        InstanceData(scores=torch.tensor([0.5])),
    ]
    # 0.25 ln 4 + 0.75 ln 4/3 and ln 2; scores of 1 and 0 have none
    assert score_sums(found).tolist() == pytest.approx([1.75, 0.562335 + 0.693147, 4])


def shifted(x: float, y: float, shape: tuple[int, int]) -> DetDataSample:
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, 2] = x, y
    return DetDataSample(metainfo=dict(homography_matrix=matrix, img_shape=shape))


def test_truth_and_doubt_move_and_what_lies_outside_is_no_truth():
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 3, 9, 30], [30.0, 10, 50, 60]]),
        labels=torch.tensor([2, 1]),
    )
    doubtful = InstanceData(
        bboxes=torch.tensor([[40.0, 5, 48, 20]]), labels=torch.tensor([0])
    )
    found.set_metainfo(dict(doubtful=doubtful))
    weak, strong = shifted(0, 0, (64, 64)), shifted(-10, 4, (48, 40))
    sample = _supervised_sample(found, weak, strong)
    assert sample.gt_instances.bboxes.tolist() == [[20, 14, 40, 48]]
    assert sample.gt_instances.labels.tolist() == [1]
    assert sample.ignored_instances.bboxes.tolist() == [[30, 9, 38, 24]]
    assert sample.ignored_instances.labels.tolist() == [0]
    assert sample.img_shape == (48, 40)


def test_masks_stay_with_their_objects_in_the_same_view():
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 3, 9, 30], [30.0, 10, 50, 40]]),
        labels=torch.tensor([2, 1]),
        masks=torch.zeros(2, 48, 56, dtype=torch.bool),
    )
    found.masks[1, 10:40, 30:50] = True
    view = shifted(0, 0, (48, 56))
    truth = _supervised_sample(found, view, view).gt_instances
    assert truth.masks.masks.shape == (2, 48, 56)
    assert (truth.masks.height, truth.masks.width) == (48, 56)
    assert truth.masks.masks.dtype == np.uint8
    assert truth.masks.masks.sum((1, 2)).tolist() == [0, 600]
    with pytest.raises(UserError, match="masks are not carried"):
        _supervised_sample(found, view, shifted(1, 0, (48, 56)))
