"""SF-UT: batch statistics of the teacher, and what its configs say."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import batch_statistics
from pld_mmdet.distill.adabn import batch_norms
from pld_mmdet.errors import UserError
from pld_mmdet.recipes.detection import batch_labeller
from pld_mmdet.registry import MODELS
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def build(kind=MeanTeacherSFOD, norm="BN", **kwargs):
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(norm=norm), hpl_threshold=0.5, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def losses(model, seed=0):
    torch.manual_seed(3)
    return model.parse_losses(fresh(model, batch_of(2, seed=seed)))[1]


def test_batch_statistics_by_hand():
    """Inputs 1 and 3: mean 2, biased variance 1, unbiased 2; momentum 0.1."""
    student = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1))
    student[1].eval()  # a frozen stage
    student.append(torch.nn.Dropout(0.5))
    network = copy.deepcopy(student).eval()
    with batch_statistics(network, student):
        out = network(torch.tensor([[1.0], [3.0]]))
    assert out.flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    assert network[0].running_mean.item() == pytest.approx(0.2)
    assert network[0].running_var.item() == pytest.approx(0.9 + 0.1 * 2)
    assert network[1].running_mean.item() == 0
    assert not any(m.training for m in network.modules())
    student.eval()
    no_layer = pytest.raises(UserError, match="no batch norm in training")
    with no_layer, batch_statistics(network, student):
        pass


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_the_teachers_statistics_follow_the_weak_view_only_in_training(kind):
    model = build(kind, labeller=batch_labeller())
    before = copy.deepcopy(model.teacher.state_dict())
    losses(model)
    after = model.teacher.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved
    assert all(n.split(".")[-1].startswith(("running", "num_batches")) for n in moved)
    assert not any(m.training for m in model.teacher.modules())
    before = copy.deepcopy(after)
    model.eval()
    data = model.data_preprocessor(batch_of(2), training=True)
    model.pseudo_labels(data["inputs"]["weak"], data["data_samples"]["weak"])
    after = model.teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_running_statistics_are_the_default_and_leave_no_trace():
    model = build()
    before = copy.deepcopy(model.teacher.state_dict())
    losses(model)
    after = model.teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)
    with pytest.raises(UserError, match="statistics='both'"):
        build(labeller=[dict(type="pld_mmdet.PredictBoxes", statistics="both")])


def hook(cfg, name):
    (found,) = [h for h in cfg.custom_hooks if h.type == f"pld_mmdet.{name}"]
    return found


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (CONFIGS / "sf_ut").glob("[!_]*"))
)
def test_configs_say_what_the_release_does(name):
    cfg = Config.fromfile(CONFIGS / f"sf_ut/{name}.py")
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes without memory
        model = MODELS.build(copy.deepcopy(cfg.model))
    network = model.student if hasattr(model, "student") else model
    network.train()
    assert any(layer.training for layer in batch_norms(network))  # it is alive
    if not hasattr(model, "student"):
        return
    assert isinstance(model, LPLD) == name.startswith("lpld")
    assert model.hpl_threshold == 0.8
    assert [step.type for step in cfg.model.labeller] == [
        "pld_mmdet.PredictBoxes",
        "pld_mmdet.SelectConfident",
    ]
    assert model.labeller[0].statistics == "batch"
    assert cfg.optim_wrapper.optimizer.lr == 0.0025
    assert hook(cfg, "TeacherEMAHook").unit == "iter"
    assert not [h for h in cfg.custom_hooks if h.type == "pld_mmdet.AdaBNHook"]
    steps = [t.type for t in cfg.train_dataloader.dataset.dataset.pipeline]
    assert steps.index("RandomFlip") < steps.index("MultiBranch")  # one geometry
