"""Larger and several teacher views: boxes come back to the weak view's pixels."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import detect_in_views
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn


class Bright(nn.Module):
    """Finds the bright rectangle of each image; its score grows with its width."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def predict(self, inputs, samples, rescale):
        assert not rescale
        for image, sample in zip(inputs, samples, strict=True):
            self.seen.append((tuple(image.shape[-2:]), sample.img_shape))
            y, x = torch.nonzero(image[0] > 0.5, as_tuple=True)
            boxes = torch.zeros(0, 4)
            if len(x):
                edges = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                boxes = torch.stack(edges)[None].float()
            width = boxes[:, 2] - boxes[:, 0]
            sample.pred_instances = InstanceData(
                bboxes=boxes,
                scores=width / 100,
                labels=torch.zeros(len(boxes), dtype=torch.long),
            )
        return samples


def images(empty=False):
    inputs = torch.zeros(1, 3, 32, 64)
    if not empty:
        inputs[..., 8:16, 20:40] = 1.0
    meta = dict(img_shape=(30, 60), batch_input_shape=(32, 64), pad_shape=(32, 64))
    return inputs, [DetDataSample(metainfo=meta)]


def test_boxes_of_a_double_view_come_back():
    teacher, (inputs, samples) = Bright(), images()
    (found,) = detect_in_views(teacher, inputs, samples, (2.0,))
    assert teacher.seen == [((64, 128), (60, 120))]
    assert torch.allclose(found.bboxes, torch.tensor([[20.0, 8, 40, 16]]), atol=1e-4)
    assert float(found.scores) == pytest.approx(0.4, abs=1e-6)  # it looked larger
    assert samples[0].img_shape == (30, 60)  # no trace


def test_boxes_end_where_the_image_ends():
    inputs, samples = images()
    inputs[..., 0:32, 50:64] = 1.0
    (found,) = detect_in_views(Bright(), inputs, samples, (2.0,))
    assert found.bboxes[0, 2:].tolist() == [60.0, 30.0]


def test_views_are_merged_and_the_surer_one_stays():
    (found,) = detect_in_views(Bright(), *images(), (1.0, 2.0))
    assert len(found) == 1
    assert float(found.scores) == pytest.approx(0.4)


def test_nothing_found_in_any_view():
    (found,) = detect_in_views(Bright(), *images(empty=True), (1.0, 2.0))
    assert len(found) == 0
    assert found.bboxes.shape == (0, 4)


def build(**kwargs):
    torch.manual_seed(0)
    model = MeanTeacherSFOD(tiny_faster_rcnn(), hpl_threshold=0.5, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model):
    torch.manual_seed(3)
    return model.parse_losses(fresh(model, batch_of(2)))[1]


def test_the_same_view_twice_changes_no_bit():
    """Two equal views merge to one: the detector's own NMS has the same IoU."""
    off, on = losses(build()), losses(build(teacher_scales=(1.0, 1.0)))
    assert off.keys() == on.keys()
    for name, value in off.items():
        assert torch.equal(value, on[name]), name


def test_a_larger_view_gives_other_labels_inside_the_image():
    model = build(teacher_scales=(1.5,))
    data = model.data_preprocessor(batch_of(2), training=True)
    views = data["inputs"]["weak"], data["data_samples"]["weak"]
    found = model.pseudo_labels(*views).high
    assert sum(len(f) for f in found) > 0
    for f in found:
        assert f.bboxes.min() >= 0
        assert f.bboxes.max() <= 64
    assert all(torch.isfinite(v) for v in losses(model).values())


def test_scales_that_mean_nothing_are_refused():
    for scales in ((), (0.0,)):
        with pytest.raises(UserError, match="no view"):
            build(teacher_scales=scales)
