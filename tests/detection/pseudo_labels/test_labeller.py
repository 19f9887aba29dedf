"""The labeller: steps in the order of the config, each by its name."""

import copy
import json

import pytest
import torch

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import LabelStep
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

DEFAULT = [dict(type="pld_mmdet.PredictBoxes"), dict(type="pld_mmdet.SelectConfident")]


@MODELS.register_module(force=True)
class KeepFirst(LabelStep):
    """At most ``count`` boxes an image, and how often it was asked."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("asked", torch.zeros((), dtype=torch.long))

    def forward(self, labels):
        labels.high = [found[: self.count] for found in labels.high]
        self.asked += labels.training


def build(kind=MeanTeacherSFOD, threshold=0.5, **kwargs):
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(), hpl_threshold=threshold, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model):
    torch.manual_seed(3)
    return model.parse_losses(fresh(model, batch_of(2)))[1]


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_the_default_steps_written_down_change_no_bit(kind):
    plain, written = build(kind), build(kind, labeller=DEFAULT)
    assert plain.state_dict().keys() == written.state_dict().keys()
    ours = losses(written)
    for name, value in losses(plain).items():
        assert torch.equal(value, ours[name]), name


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_a_step_of_ones_own_has_its_turn_and_its_buffers(kind):
    steps = [*DEFAULT, dict(type="pld_mmdet.KeepFirst", count=2)]
    model, plain = build(kind, labeller=steps), build(kind)
    losses(plain)
    losses(model)
    assert plain.pseudo_counts["high"].sum() > 2
    assert model.pseudo_counts["high"].sum() == 2  # a mean over two images
    assert int(model.state_dict()["labeller.2.asked"]) == 1
    model.eval()
    data = model.data_preprocessor(batch_of(2), training=True)
    views = data["inputs"]["weak"], data["data_samples"]["weak"]
    assert [len(high) for high in model.pseudo_labels(*views).high] == [2, 2]
    assert int(model.labeller[2].asked) == 1  # not in training


def test_what_is_no_step_is_refused():
    with pytest.raises(UserError, match="LPLD is no step of a labeller"):
        build(labeller=[dict(type="pld_mmdet.LPLD", detector=tiny_faster_rcnn())])


def test_a_second_opinion_teaches_and_its_count_is_in_the_checkpoint(tmp_path):
    rows = [dict(image_id="0.png", category_id="car", bbox=[8, 8, 30, 30], score=0.9)]
    file = tmp_path / "opinion.json"
    file.write_text(json.dumps(rows))
    settings = dict(file=str(file), classes=("car", "person", "bus"), threshold=0.5)
    model = build(threshold=1.0, second_opinion=settings)  # the teacher has none
    losses(model)
    assert model.pseudo_counts["high"].tolist() == [0.5, 0.0, 0.0]
    assert int(model.labeller[-1].steps) == 1
    step = dict(type="pld_mmdet.SecondOpinion", **settings)
    other = build(threshold=1.0, labeller=[*DEFAULT, step])
    other.load_state_dict(model.state_dict(), strict=True)
    assert int(other.labeller[-1].steps) == 1
    plain = copy.deepcopy(model.student.state_dict())
    other.load_state_dict(plain, strict=True)  # a detector's own checkpoint
