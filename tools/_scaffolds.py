"""Texts of ``new_method.py``: what the files of a new method say at first."""

METHOD = '''"""{title} ({year})."""

from torch import Tensor

from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.run.method import DistilledClassifier
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class {name}(DistilledClassifier):
    """{title}.

        loss = CE(z_s, y) + weight * tau^2 KL(p_t || p_s),  p = softmax(z / tau)

    Deviations from the authors' code: TODO(name them, or say none).

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teacher: Config of the frozen network.
        weight: Of the divergence (source: TODO).
        tau: Temperature (source: TODO).
        predict_on: ``student`` (the result) or ``teacher``.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        weight: float = 1.0,
        tau: float = 4.0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teacher, weight, predict_on, init_cfg=init_cfg)
        self.tau = tau

    def distance(self, z_t: Tensor, z_s: Tensor) -> Tensor:
        """The divergence of logits [N, C] each, mean over images."""
        return kl(z_t, z_s, self.tau)
'''

PLAIN_LOOP = '''"""{title}: a step of ours and the shortest loop of plain torch."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.benchmark.pairs import Pair, build, conv_net, ours, plain


def pair() -> Pair:
    """Two convolutional networks on 32 x 32 images."""
    student, teacher = conv_net(64, 128, 256), conv_net(64, 128, 256, 512)
    model = build("{name}", student=student, teacher=teacher)
    twin = copy.deepcopy(model)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10

    def mathematics() -> Tensor:
        z_s = twin.student(x)
        with torch.no_grad():
            p_t = (twin.teacher(x) / 4).softmax(1)
        apart = (p_t * (p_t.log() - (z_s / 4).log_softmax(1))).sum(1).mean()
        return F.cross_entropy(z_s, y) + 16 * apart

    sides = ours(model, dict(inputs=x, targets=y)), plain(twin, mathematics)
    return Pair("{title}", "32 images of 32 x 32", model, twin, *sides)
'''

PLAIN = """# The baseline of {title}: the same student and length, cross-entropy only.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import optimizer

student = dict(type="pld_mmdet.SmallConvNet", widths=(8, 16))
model = dict(type="pld_mmdet.Classifier", network=student)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=300, val_interval=300)
optim_wrapper = optimizer("Adam", 3e-3)
"""

TOY = """# {title} on scikit-learn's digits.
_base_ = "./plain.py"
from pld_mmdet.recipes.tables import row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.{name}",
    student=_base_.student,
    teacher=dict(type="pld_mmdet.SmallConvNet", widths=(16, 32)),
)
walk = ["train_cfg.max_iters=2", "train_dataloader.batch_size=8"]
experiment = table(
    "{stem}", row("plain", "Cross-entropy only"), row("{stem}", "{title}")
)
"""

PAPER = """# {title}, the published setting.
# TODO: data, networks, length, optimizer, each with its source; the toy's until then.
_base_ = "./toy.py"
"""

TEST = '''"""{title}: worked numbers, gradient stops."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from pld_mmdet.catalogue import ROOT


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(ROOT / "configs/{stem}/toy.py").model)


def batch():
    return {{"inputs": torch.rand(4, 1, 8, 8), "targets": torch.arange(4)}}


def test_equal_networks_have_no_divergence(model):
    model.teacher.network = model.student.eval()
    assert model.loss(**batch())["loss_kd"].item() == pytest.approx(0.0, abs=1e-6)


def test_distance_by_hand(model):
    """KL((3, 1) / 4 || (1, 1) / 2) = 0.130812, and the weight is not in it."""
    model.tau = 1.0
    z_t, z_s = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    assert model.distance(z_t, z_s).item() == pytest.approx(0.130812, abs=1e-6)


def test_the_teacher_gets_no_gradient(model):
    sum(model.loss(**batch()).values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_the_published_setting_builds_and_steps():
    cfg = Config.fromfile(ROOT / "configs/{stem}/paper.py")
    losses = MODELS.build(cfg.model).loss(**batch())
    assert all(torch.isfinite(loss) for loss in losses.values())
'''

DOCS = """
## {stem}: {title}

What it is, when to use it, the equation: TODO.

    python tools/train.py configs/{stem}/toy.py
    python tools/reproduce.py configs/{stem}/toy.py --seeds 0 1 2 \\
        --result docs/results/{stem}.json --overwrite
"""

DETECTOR = '''"""{title} ({year})."""

from mmdet.models.utils import reweight_loss_dict
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.pseudo_labels import Labels, LabelStep
from pld_mmdet.registry import MODELS


def best_of_each_class(boxes: InstanceData, share: float) -> InstanceData:
    """The boxes of an image with the highest scores, class by class.

    Args:
        boxes: n boxes with ``scores`` [n] and ``labels`` [n].
        share: Of each class's boxes that stay, rounded up.

    Returns:
        At most n of them, in their order.
    """
    same = boxes.labels[:, None] == boxes.labels
    place = (same & (boxes.scores >= boxes.scores[:, None])).sum(1)
    return boxes[place <= (share * same.sum(1)).ceil()]


@MODELS.register_module()
class {name}Select(LabelStep):
    """Select: of the confident boxes of an image the best ones of each class.

    Args:
        share: Of a class's confident boxes that stay (source: TODO).
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.share = share

    def forward(self, labels: Labels) -> None:
        """Shorten ``labels.high``."""
        labels.high = [best_of_each_class(one, self.share) for one in labels.high]


@MODELS.register_module()
class {name}(MeanTeacherSFOD):
    """{title}.

        loss = weight * L(student(strong view), labeller(teacher(weak view)))

    L are the detector's own losses; the labeller is a list of steps in the config.
    Deviations from the authors' code: TODO(name them, or say none).

    Args:
        detector: Config of any mmdet detector.
        weight: Of the losses (source: TODO).
        **kwargs: See :class:`MeanTeacherSFOD`.
    """

    def __init__(self, detector: dict, *, weight: float = 1.0, **kwargs) -> None:
        super().__init__(detector, **kwargs)
        self.weight = weight

    def loss(
        self,
        batch_inputs: dict[str, Tensor],
        batch_data_samples: dict[str, list[DetDataSample]],
    ) -> dict[str, Tensor]:
        """Losses of the student on the labels; see :class:`MeanTeacherSFOD`."""
        labels = self.label(batch_inputs["weak"], batch_data_samples["weak"])
        self._count(high=labels.high)
        losses = self.student_loss(labels.high, batch_inputs, batch_data_samples)
        return reweight_loss_dict(losses, self.weight)
'''

DETECTOR_TOY = """# {title} on the embedded data: clear generated streets to fog.
_base_ = "../_base_/recipes/sfod_streets.py"
from pld_mmdet.recipes.streets import adapted_row, quick_streets, source_row

model = dict(
    type="pld_mmdet.{name}",
    labeller=[
        dict(type="pld_mmdet.PredictBoxes"),
        dict(type="pld_mmdet.SelectConfident"),
        dict(type="pld_mmdet.{name}Select", share=0.5),
    ],
)
experiment = dict(
    _delete_=True,
    name="{stem}",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        source_row(clear=False),
        adapted_row("plain", "AdaBN + Mean Teacher", "mean_teacher/foggy_streets"),
        adapted_row("{stem}", "{title}", "{stem}/toy"),
    ],
)
"""

DETECTOR_PAPER = """# {title}, the published setting: Cityscapes -> Foggy Cityscapes.
# TODO: data, detector, length, optimizer, each with its source; LPLD's until then.
_base_ = "../_base_/recipes/sfod.py"

model = dict(
    type="pld_mmdet.{name}",
    labeller=[
        dict(type="pld_mmdet.PredictBoxes"),
        dict(type="pld_mmdet.SelectConfident"),
        dict(type="pld_mmdet.{name}Select", share=0.5),
    ],
)
"""

DETECTOR_TEST = '''"""{title}: worked numbers, its limit, gradient stops."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from pld_mmdet.catalogue import ROOT
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.detection.{stem} import {name}, best_of_each_class
from pld_mmdet.registry import MODELS
from tests.detection.helpers import batch_of, fresh, give_confidence
from tests.helpers import tiny_faster_rcnn

STEPS = ["PredictBoxes", "SelectConfident", "{name}Select"]


def build(kind={name}, **kwargs):
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(), hpl_threshold=0.5, **kwargs)
    model.init_weights()
    give_confidence(model)
    return model.train()


def labeller(share):
    steps = [dict(type=f"pld_mmdet.{{name}}") for name in STEPS]
    steps[-1].update(share=share)
    return steps


def losses(model):
    torch.manual_seed(3)
    return model.parse_losses(fresh(model, batch_of(2)))[1]


def boxes(scores, classes):
    return InstanceData(scores=torch.tensor(scores), labels=torch.tensor(classes))


def test_the_best_of_each_class_by_hand():
    """Half of three is two, half of one is one."""
    found = boxes([0.7, 0.6, 0.9, 0.8], [1, 0, 1, 1])
    best = best_of_each_class(found, 0.5)
    assert best.scores.tolist() == pytest.approx([0.6, 0.9, 0.8])
    assert best.labels.tolist() == [0, 1, 1]
    assert len(best_of_each_class(found[:0], 0.5)) == 0


def test_with_all_boxes_it_is_mean_teacher_bit_for_bit():
    ours, theirs = losses(build(labeller=labeller(1.0))), losses(build(MeanTeacherSFOD))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_half_of_the_boxes_teach():
    whole, half = build(), build(labeller=labeller(0.5))
    losses(whole)
    losses(half)
    counts = whole.pseudo_counts["high"], half.pseudo_counts["high"]
    assert counts[0].max() > 1
    assert counts[1].sum() < counts[0].sum()


def test_the_weight_is_a_factor_of_each_loss():
    once, twice = losses(build()), losses(build(weight=2.0))
    assert twice["loss"].item() == pytest.approx(2 * once["loss"].item(), rel=1e-5)


def test_the_teacher_gets_no_gradient():
    model = build(labeller=labeller(0.5))
    model.parse_losses(fresh(model, batch_of(2)))[0].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert any(p.grad is not None for p in model.student.parameters())


@pytest.mark.parametrize("config", ["toy", "paper"])
def test_its_configs_build(config):
    cfg = Config.fromfile(ROOT / f"configs/{stem}/{{config}}.py")
    init_default_scope("mmdet")
    with torch.device("meta"):  # shapes without memory
        model = MODELS.build(copy.deepcopy(cfg.model))
    assert isinstance(model, {name})
    assert [type(step).__name__ for step in model.labeller] == STEPS
'''

DETECTOR_DOCS = """# {title}

What it is, when to use it, the equation: TODO.

    python tools/train.py configs/{stem}/toy.py
    python tools/reproduce.py configs/{stem}/toy.py --seeds 0 1 2 \\
        --result docs/results/{stem}.json --overwrite

Code: `pld_mmdet/detection/{stem}.py`, test `tests/detection/test_{stem}.py`.
"""

# Path -> text of each file.
TEACHER_NET = {
    "pld_mmdet/{family}/{stem}.py": METHOD,
    "configs/{stem}/plain.py": PLAIN,
    "configs/{stem}/toy.py": TOY,
    "configs/{stem}/paper.py": PAPER,
    "tests/{family}/test_{stem}.py": TEST,
    "tests/{family}/plain_{stem}.py": PLAIN_LOOP,
}
DETECTION = {
    "pld_mmdet/{family}/{stem}.py": DETECTOR,
    "configs/{stem}/toy.py": DETECTOR_TOY,
    "configs/{stem}/paper.py": DETECTOR_PAPER,
    "tests/{family}/test_{stem}.py": DETECTOR_TEST,
    "docs/{stem}.md": DETECTOR_DOCS,
}
