"""The ignore band: who is spared, by hand; nothing to spare changes no bit."""

import copy

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import Labels, SpareDoubtful, SparingAssigner
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence, tiny_cascade
from tests.helpers import tiny_faster_rcnn

ASSIGNER = SparingAssigner(
    MaxIoUAssigner(
        pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=False
    )
)
# Priors 10 high, so that the IoU with a box of 10 x 10 at their left is 10 / width.
PRIORS = InstanceData(
    priors=torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],  # the object itself
            [100.0, 0.0, 110.0, 10.0],  # the doubtful box itself
            [100.0, 0.0, 120.0, 10.0],  # IoU 0.5 with it: undecided if it were one
            [100.0, 0.0, 140.0, 10.0],  # IoU 0.25: background in any case
            [102.0, 2.0, 104.0, 4.0],  # inside it, IoU 0.04: background in any case
            [500.0, 0.0, 510.0, 10.0],
        ]
    )
)
DOUBTFUL = InstanceData(
    bboxes=torch.tensor([[100.0, 0.0, 110.0, 10.0]]), labels=torch.tensor([1])
)


def truth(*boxes):
    boxes = torch.tensor(boxes, dtype=torch.float).view(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels)


def test_who_would_be_claimed_is_spared():
    found = ASSIGNER.assign(PRIORS, truth([0, 0, 10, 10]), DOUBTFUL)
    assert found.gt_inds.tolist() == [1, -1, -1, 0, 0, 0]


def test_positives_stay_positive():
    both = truth([0, 0, 10, 10], [100, 0, 120, 10])
    found = ASSIGNER.assign(PRIORS, both, DOUBTFUL)
    # prior 1 has IoU 0.5 with the second object: undecided, with or without a band
    assert found.gt_inds.tolist() == [1, -1, 2, -1, 0, 0]
    alone = ASSIGNER.assigner.assign(PRIORS, both)
    assert alone.gt_inds.tolist() == [1, -1, 2, -1, 0, 0]


def test_images_without_an_object_are_spared_too():
    """mmdet's ignore_iof_thr does nothing here, where it matters most."""
    found = ASSIGNER.assign(PRIORS, truth(), DOUBTFUL)
    assert found.gt_inds.tolist() == [0, -1, -1, 0, 0, 0]


@pytest.mark.parametrize("ignored", [None, truth()])
def test_nothing_doubtful_changes_nothing(ignored):
    for boxes in (truth(), truth([0, 0, 10, 10])):
        found = ASSIGNER.assign(PRIORS, boxes, ignored)
        plain = ASSIGNER.assigner.assign(PRIORS, boxes)
        assert torch.equal(found.gt_inds, plain.gt_inds)


def detections():
    return InstanceData(
        bboxes=torch.arange(16.0).view(4, 4),
        scores=torch.tensor([0.2, 0.5, 0.7, 0.8]),
        labels=torch.tensor([0, 1, 1, 0]),
    )


def test_the_band_is_open_below_and_closed_above():
    found = detections()
    sure = found[found.scores > 0.7]
    nothing = (None,) * 4
    labels = Labels(*nothing, threshold=0.7, training=True, seen=[found], high=[sure])
    SpareDoubtful(0.2)(labels)
    assert sure.doubtful.labels.tolist() == [1, 1]
    assert sure.doubtful.bboxes[:, 0].tolist() == [4.0, 8.0]
    assert len(sure) == 1


def sparing(above):
    kinds = dict(type="pld_mmdet.PredictBoxes"), dict(type="pld_mmdet.SelectConfident")
    return dict(labeller=[*kinds, dict(type="pld_mmdet.SpareDoubtful", above=above)])


def build(kind=MeanTeacherSFOD, detector=None, **kwargs):
    torch.manual_seed(0)
    model = kind(detector or tiny_faster_rcnn(), hpl_threshold=0.6, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model, **kwargs):
    torch.manual_seed(3)
    found = fresh(model, batch_of(2, **kwargs))
    return model.parse_losses(found)[1]


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_an_empty_band_changes_no_bit(kind):
    off, on = losses(build(kind)), losses(build(kind, **sparing(0.6)))
    assert off.keys() == on.keys()
    for name, value in off.items():
        assert torch.equal(value, on[name]), name


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
@pytest.mark.parametrize("flip", [False, True])
def test_the_student_is_told_where_to_be_spared(kind, flip):
    model = build(kind, **sparing(0.1))
    plain = losses(build(kind), flip_strong=flip)
    ours = losses(model, flip_strong=flip)
    assert ours["loss_rpn_cls"] != plain["loss_rpn_cls"]
    assert ours["loss_cls"] != plain["loss_cls"]
    seen = []
    stock = model.student.loss
    model.student.loss = lambda x, s: seen.extend(copy.deepcopy(s)) or stock(x, s)
    losses(model, flip_strong=flip)
    data = model.data_preprocessor(batch_of(2), training=True)
    found = model._teacher_detections(
        data["inputs"]["weak"], data["data_samples"]["weak"]
    )
    for sample, one in zip(seen, found, strict=True):
        band = one[(one.scores > 0.1) & (one.scores <= 0.6)]
        assert len(band) > 0
        expected = band.bboxes.clone()
        if flip:
            expected[:, [0, 2]] = 64 - band.bboxes[:, [2, 0]]
        boxes = sample.ignored_instances.bboxes
        assert torch.allclose(boxes, expected, atol=1e-3)
        assert len(sample.gt_instances) == int((one.scores > 0.6).sum())


def test_no_confident_box_at_all():
    """hpl_threshold 1: no pseudo label at all, the band is everything above."""
    model = build(**sparing(0.1))
    model.hpl_threshold = 1.0
    ours = losses(model)
    assert all(torch.isfinite(v) for v in ours.values())
    assert ours["loss_bbox"] == 0


def test_every_stage_of_a_cascade_is_told():
    model = build(detector=tiny_cascade(), **sparing(0.1))
    kinds = [type(a) for a in model.student.roi_head.bbox_assigner]
    assert kinds == [SparingAssigner] * 3
    assert all(torch.isfinite(v) for v in losses(model).values())


def test_detectors_that_cannot_spare_are_refused():
    with pytest.raises(UserError, match="leaves no band"):
        build(**sparing(0.7))
    fcos = ConfigDict(
        type="mmdet.FCOS",
        backbone=tiny_faster_rcnn().backbone,
        neck=tiny_faster_rcnn().neck,
        bbox_head=dict(
            type="mmdet.FCOSHead", num_classes=3, in_channels=16, norm_cfg=None
        ),
    )
    with pytest.raises(UserError, match="without an assigner"):
        MeanTeacherSFOD(fcos, **sparing(0.1))
