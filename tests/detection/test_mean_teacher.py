"""Mean Teacher: source-free by construction, two networks in one state dict."""

import copy

import numpy as np
import pytest
import torch

from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence
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
