"""What every method around a stock detector shares: build, copy, load, predict, count.

:class:`DetectorWrapper` holds one stock detector, :class:`TeacherStudentDetector` a
student and its teacher. A method adds its ``loss``.
"""

import copy
from dataclasses import dataclass, field

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.model.weight_init import initialize
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.detection.boxes.matching import count_agreeing
from pld_mmdet.detection.boxes.views import into_input, map_to_strong
from pld_mmdet.detection.detectors.stock import (
    build_detector,
    full_precision_heads,
    num_classes,
)
from pld_mmdet.distill.adabn import batch_norms
from pld_mmdet.engine.state.provenance import PRETRAINED
from pld_mmdet.errors import UserError


@dataclass
class PseudoLabels:
    """What the teacher says about a batch; one entry an image, weak-view pixels.

    Attributes:
        high: Boxes the student is supervised with.
        low: Mined low-confidence proposals (LPLD only).
        dropped: Proposals that were neither (LPLD only).
    """

    high: list[InstanceData]
    low: list[InstanceData] = field(default_factory=list)
    dropped: list[InstanceData] = field(default_factory=list)


# mmdet's semi-supervised configs call the two views by what they are for.
STOCK_BRANCHES = dict(unsup_teacher="weak", unsup_student="strong")


def own_branches(views: dict, needed: tuple[str, ...] = ()) -> dict:
    """Branches of a batch under our names; mmdet's ``unsup_*`` are known too.

    Args:
        views: Branch -> what it holds, as the data preprocessor gives it.
        needed: Branches that must be there.

    Returns:
        The same under ``sup``, ``weak`` and ``strong`` (other names stay).

    Raises:
        UserError: A branch is missing; the names that are there are listed.
    """
    if not isinstance(views, dict):
        raise UserError(
            "A method with a teacher learns from branches (weak, strong), and this "
            "batch has one plain set of images.",
            "Take a pipeline with mmdet's MultiBranch (configs/_base_ has some), or "
            "train the plain detector.",
        )
    views = {STOCK_BRANCHES.get(name, name): view for name, view in views.items()}
    for name in needed:
        if not len(views.get(name, ())):
            there = ", ".join(n for n, view in views.items() if len(view))
            raise UserError(
                f"The batch has no image in branch {name!r} (it has: {there or '-'}).",
                f"Let MultiBranch of the pipeline fill {name!r}, and the sampler draw "
                "from that source in every batch.",
            )
    return views


def high_confidence(instances: InstanceData, threshold: float) -> InstanceData:
    """Detections of one image with a score strictly above ``threshold`` (HPL)."""
    return instances[instances.scores > threshold]


class DetectorWrapper(BaseDetector):
    """A stock detector inside a method: built, filled from a checkpoint, asked.

    Args:
        detector: Config of an mmdet detector.
        data_preprocessor: Defaults to mmdet's ``MultiBranchDataPreprocessor`` around
            the detector's own.
        init_cfg: As in mmengine; usually the weights come from ``load_from``. A
            checkpoint of the plain detector fills every network.
        **unread: Refused: an option of another method.

    Attributes:
        networks: The attributes that hold the detector; the first one is built.
        branches: Branches of a training batch that the loss reads; mmdet's names
            ``unsup_teacher`` and ``unsup_student`` mean ``weak`` and ``strong``.
        kept: Starts of the names of what a method holds beside them (counters,
            memories); where a checkpoint has none of it, the model's own stays.
        num_classes: Classes that the detector tells apart.
        pseudo_counts: Pseudo labels per class and image of the last step, by kind.

    Raises:
        UserError: There are options that the method does not read.
    """

    networks: tuple[str, ...] = ("detector",)
    branches: tuple[str, ...] = ("weak",)
    kept: tuple[str, ...] = ()

    def __init__(
        self,
        detector: dict,
        *,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **unread,
    ) -> None:
        if unread:
            raise UserError(
                f"{type(self).__name__} does not read {', '.join(unread)}.",
                "Leave it out, or take a method that does (pld_mmdet.MeanTeacherSFOD "
                "reads all options about pseudo labels).",
            )
        detector = ConfigDict(copy.deepcopy(detector))
        if data_preprocessor is None:
            data_preprocessor = ConfigDict(
                type="mmdet.MultiBranchDataPreprocessor",
                data_preprocessor=detector.get(
                    "data_preprocessor", dict(type="mmdet.DetDataPreprocessor")
                ),
            )
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        network = full_precision_heads(build_detector(detector))
        setattr(self, self.networks[0], network)
        self.num_classes = num_classes(network)
        self.pseudo_counts: dict[str, Tensor] = {}
        self._register_load_state_dict_pre_hook(_fill_networks, with_module=True)

    @property
    def result(self) -> nn.Module:
        """The network that predicts."""
        return getattr(self, self.networks[0])

    def init_weights(self) -> None:
        """Initialise the first network and copy it to the others; ``init_cfg``."""
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
        files = [c for c in cfgs if c["type"] in PRETRAINED]
        first, *others = (getattr(self, name) for name in self.networks)
        initialize(first, [c for c in cfgs if c not in files])
        first.init_weights()
        for network in others:
            network.load_state_dict(first.state_dict())
        initialize(self, files)  # of the plain detector or of all networks

    def forward(self, inputs, data_samples=None, mode: str = "tensor"):
        """As mmdet's; the branches of a training batch come under our names."""
        if mode == "loss":
            inputs = own_branches(inputs, self.branches)
            data_samples = own_branches(data_samples)
        return super().forward(inputs, data_samples, mode)

    @torch.no_grad()
    def _count(self, **instances: list[InstanceData]) -> None:
        """Boxes per class of this step, left on the device for whoever logs them."""
        self.pseudo_counts = {}
        for name, per_image in instances.items():
            labels = torch.cat([i.labels for i in per_image])
            counts = labels.new_zeros(self.num_classes, dtype=torch.float)
            counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float))
            self.pseudo_counts[name] = counts / len(per_image)

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """Detections of the network that is the result; see mmdet."""
        return self.result.predict(batch_inputs, batch_data_samples, rescale=rescale)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of the network that is the result; see mmdet."""
        return self.result.extract_feat(batch_inputs)

    def _forward(self, batch_inputs: Tensor, batch_data_samples=None) -> tuple:
        return self.result._forward(batch_inputs, batch_data_samples)


class TeacherStudentDetector(DetectorWrapper):
    """A student detector and a teacher that starts as its copy and gets no gradient.

    A method sets ``hpl_threshold``: teacher's scores strictly above it are confident.

    Args:
        detector: Config of an mmdet detector.
        predict_on: ``'teacher'`` or ``'student'``: the network that is the result.
        norm_eval: The student's batch norm keeps its statistics in training, in all of
            the network (a backbone's own ``norm_eval`` says nothing of neck and heads).
        **kwargs: See :class:`DetectorWrapper`.

    Raises:
        UserError: ``predict_on`` names no network.
    """

    networks = ("student", "teacher")
    branches = ("weak", "strong")
    hpl_threshold: float

    def __init__(
        self,
        detector: dict,
        *,
        predict_on: str = "teacher",
        norm_eval: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(detector, **kwargs)
        self.norm_eval = norm_eval
        # by this name mmdet's TeacherStudentValLoop evaluates both networks
        self.semi_test_cfg: dict[str, str] = {}
        self.predict_on = predict_on
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TeacherStudentDetector":
        """The teacher stays in evaluation mode whatever the student does."""
        super().train(mode)
        self.teacher.eval()
        if self.norm_eval:
            for layer in batch_norms(self.student):
                layer.eval()
        return self

    @property
    def predict_on(self) -> str:
        """``'teacher'`` or ``'student'``: the network that is the result."""
        return self.semi_test_cfg["predict_on"]

    @predict_on.setter
    def predict_on(self, network: str) -> None:
        if network not in self.networks:
            raise UserError(
                f"predict_on={network!r} names no network of {type(self).__name__}.",
                "Write predict_on='teacher' or predict_on='student'.",
            )
        self.semi_test_cfg["predict_on"] = network

    @property
    def result(self) -> nn.Module:
        """The network that ``predict_on`` names."""
        return getattr(self, self.predict_on)

    @torch.no_grad()
    def teacher_boxes(self, sample: dict) -> InstanceData:
        """What the teacher sees on one image.

        Args:
            sample: ``inputs`` 3 x H x W and ``data_samples``, one view as the pipeline
                gives it; only meta information of the latter is used.

        Returns:
            Detections of all scores, in pixels of the network's input.
        """
        meta = DetDataSample(metainfo=sample["data_samples"].metainfo)
        batch = dict(inputs=[sample["inputs"]], data_samples=[meta])
        data = self.data_preprocessor(batch, False)
        (seen,) = self.teacher.predict(
            data["inputs"], data["data_samples"], rescale=False
        )
        return into_input(seen.pred_instances, seen)

    @torch.no_grad()
    def view_agreement(self, data_batch: dict) -> Tensor:
        """How far the student on the strong view sees what the teacher sees.

        Args:
            data_batch: A training batch as the loader gives it; it is not changed.

        Returns:
            [2]: boxes that have a partner of the same class (IoU at least 0.5) in the
            other view, and all boxes; of both networks, scores above
            ``hpl_threshold / 2``.
        """
        data = self.data_preprocessor(copy.deepcopy(data_batch), True)
        inputs = own_branches(data["inputs"], ("weak", "strong"))
        samples = own_branches(data["data_samples"])
        training = self.student.training
        self.student.eval()
        seen = [
            [
                high_confidence(into_input(s.pred_instances, s), self.hpl_threshold / 2)
                for s in network.predict(
                    inputs[view],
                    [DetDataSample(metainfo=s.metainfo) for s in samples[view]],
                    rescale=False,
                )
            ]
            for network, view in ((self.teacher, "weak"), (self.student, "strong"))
        ]
        self.student.train(training)
        views = zip(*seen, samples["weak"], samples["strong"], strict=True)
        counts = [
            count_agreeing(
                map_to_strong(ours.bboxes, weak, strong),
                ours.labels,
                theirs.bboxes,
                theirs.labels,
            )
            for ours, theirs, weak, strong in views
        ]
        return torch.stack(counts).sum(0)


def _fill_networks(
    model: DetectorWrapper, state_dict: dict, prefix: str, *args
) -> None:
    """Let a checkpoint of the plain detector fill every network."""
    starts = tuple(f"{prefix}{name}." for name in model.networks)
    keys = [k for k in state_dict if k.startswith(prefix)]
    if keys and not any(k.startswith(starts) for k in keys):
        for key in keys:
            value = state_dict.pop(key)
            for start in starts:
                state_dict[start + key[len(prefix) :]] = value
    for start in model.kept:
        if not any(k.startswith(prefix + start) for k in state_dict):
            ours = model.state_dict()
            lacking = {k: v.clone() for k, v in ours.items() if k.startswith(start)}
            state_dict.update({prefix + k: v for k, v in lacking.items()})
            text = f"The checkpoint has no {start.strip('._')}: it starts fresh."
            print_log(text, "current")
