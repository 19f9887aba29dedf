"""One pseudo label, or none, in every precision: the step stays finite."""

import pytest
import torch

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]


def wrapped(kind: type) -> MeanTeacherSFOD:
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(3))
    model.init_weights()
    give_confidence(model)
    return model.train()


def threshold_above(model: MeanTeacherSFOD, batch: dict, boxes: int) -> float:
    """A threshold that so many detections of the teacher exceed."""
    data = model.data_preprocessor(batch, True)
    found = model._teacher_detections(
        data["inputs"]["weak"], data["data_samples"]["weak"]
    )
    scores = torch.cat([image.scores for image in found]).sort(descending=True).values
    return scores[boxes].item() if boxes else 1.0


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("boxes", [0, 1])
@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_none_and_one_in_every_precision(kind, boxes, precision):
    model = wrapped(kind)
    reduced = precision != torch.float32
    with torch.autocast("cpu", dtype=precision, enabled=reduced):
        model.hpl_threshold = threshold_above(model, batch_of(2), boxes)
        losses = fresh(model, batch_of(2))
    assert model.pseudo_counts["high"].sum() * 2 == boxes  # a mean over two images
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    gradients = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    if boxes == 0:
        assert losses["loss_bbox"] == 0
