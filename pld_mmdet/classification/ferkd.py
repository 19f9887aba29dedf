"""FerKD: stored labels of crops, some discarded, some replaced by the ground truth."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from mmengine.dist import barrier, is_main_process
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.classification.data.label_store import TOP, LabelStore, fingerprint
from pld_mmdet.distill._checks import same_shape
from pld_mmdet.distill._gather import gathered
from pld_mmdet.distill.losses import masked_mean, soft_cross_entropy
from pld_mmdet.distill.selection import quantile
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.taught import TaughtStudent
from pld_mmdet.shared.views import drawn_windows, replayed

_STREAM = 13  # keeps the draw of regions apart from other draws
STORED = ("boxes", "flips", "top", "classes", "thresholds")


def marginal_smoothing(top: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """Whole distributions from the largest probabilities (FKD's ``k5`` labels).

    Classes that were not stored share what is missing to 1 evenly.

    Args:
        top: [N, 5] probabilities.
        index: [N, 5] their classes.
        num_classes: C, above 5.

    Returns:
        [N, C]; every row sums to 1.

    Raises:
        UserError: Shapes differ, or there is no class to share with.
    """
    same_shape("marginal_smoothing", top=top, index=index)
    rest = num_classes - top.shape[1]
    if rest < 1:
        raise UserError(
            f"marginal_smoothing: {top.shape[1]} probabilities of {num_classes} "
            "classes leave no class for the rest.",
            "Store fewer, or the whole distribution.",
        )
    share = (1 - top.sum(1, keepdim=True)) / rest
    return share.repeat(1, num_classes).scatter(1, index.long(), top)


def calibrated(
    labels: Tensor,
    targets: Tensor,
    low: float,
    middle: float,
    high: float = 1.0,
    eps: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Labels of crops by how sure the teacher was, and which crops are kept.

    With m the largest probability of a crop: ``m < low`` or ``m > high`` is discarded,
    ``low <= m < middle`` (a hard region) gets the smoothed ground truth, 1 - eps on
    its class and the rest evenly on the others; what is left keeps the soft label.

    Args:
        labels: Soft labels [N, C].
        targets: Ground truth [N].
        low: T_L.
        middle: T_M.
        high: T_T [1: off].
        eps: Of the smoothed ground truth [0.1, ours].

    Returns:
        [N, C], and a mask [N].
    """
    sure = labels.max(1).values
    spread = eps / (labels.shape[1] - 1)
    truth = F.one_hot(targets, labels.shape[1]) * (1 - eps - spread) + spread
    hard = (sure < middle)[:, None]
    return torch.where(hard, truth.to(labels), labels), (sure >= low) & (sure <= high)


@MODELS.register_module()
class FerKD(TaughtStudent):
    r"""Surgical label adaptation (Shen 2023), on the stored labels of FKD.

    Once, the teacher labels ``crops`` random crops of each image; stored are the box,
    the flip and the five largest probabilities (buffers, so in the checkpoint)::

        L = mean over kept crops of CE(y_a, z_s)
        y_a = smoothed ground truth where low <= m < middle, else the stored label
        kept: low <= m <= high,   m the largest stored probability

    Each image brings ``visits`` of its crops to a batch. The teacher is not asked
    again.
    Stages of ``StagedLoop``: ``teacher``, ``distill``, whose ``work_dataloader`` brings
    each image once with its ``index``.

    The thresholds, eps and SelfMix were not released: here T_L and T_M are quantiles of
    m over all crops, T_T is off, the other classes share eps evenly, and SelfMix is
    left out. ``low=0, middle=0`` is FKD.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Config of the teacher, in a list of one.
        num_samples: Images.
        num_classes: C, above 5.
        crops: Stored crops of an image [16, ours].
        visits: Crops of an image in a batch [4, FKD].
        low: Share of all crops that are discarded as uninformative [0.05, ours].
        middle: Share below which a crop is discarded or hard [0.2, ours].
        eps: Of the smoothed ground truth [0.1, ours].
        area: Range of a crop's share of the image [0.25 to 1, ours].
        labels: File that the labels are also kept in (:class:`LabelStore`): one that
            is complete is read instead of asking the teacher, one that is not is gone
            on with. Boxes and probabilities are in half precision then [None].
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: Ranges, or more than one teacher.
    """

    work = {"distill": "all images, each once"}

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        num_samples: int,
        num_classes: int,
        crops: int = 16,
        visits: int = 4,
        low: float = 0.05,
        middle: float = 0.2,
        eps: float = 0.1,
        area: tuple[float, float] = (0.25, 1.0),
        labels: str | None = None,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teachers, predict_on, init_cfg)
        if not 0 <= low <= middle <= 1 or not 0 < visits <= crops:
            raise UserError(
                f"FerKD: low={low}, middle={middle}, visits={visits}, crops={crops}.",
                "Choose 0 <= low <= middle <= 1 and visits up to crops.",
            )
        if num_classes <= TOP:
            raise UserError(
                f"FerKD: num_classes={num_classes}; {TOP} probabilities of each crop "
                "are kept, and the other classes share the rest.",
                f"It wants more than {TOP} classes; take SSLD for fewer.",
            )
        if len(self.teachers) > 1:
            raise UserError("FerKD has one teacher.", "Give a list of one config.")
        self.num_classes, self.visits, self.area = num_classes, visits, tuple(area)
        self.low, self.middle, self.eps = low, middle, eps
        self.labels, self.store = labels, None
        shape = num_samples, crops
        self.register_buffer("boxes", torch.zeros(*shape, 4))
        self.register_buffer("flips", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("top", torch.zeros(*shape, TOP))
        self.register_buffer("classes", torch.zeros(*shape, TOP, dtype=torch.int32))
        self.register_buffer("thresholds", torch.zeros(2))
        # all processes store the same (int32: gloo knows no int16)
        self._ddp_params_and_buffers_to_ignore = [*STORED]

    def drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """Random boxes [count, 4] of ``area``, aspect 3/4 to 4/3, and flips [count]."""
        return drawn_windows(count, self.area)

    def start_stage(self, name: str, loader: Iterable | None, folder: Path) -> None:
        """Before ``distill`` the teacher labels the crops of every image, once."""
        if name != "distill":
            return
        self.check_work(name, loader)
        if self.labels is not None:
            self.store = self._opened()
        if self.store is not None and self.store.complete:
            everything = torch.arange(len(self.boxes))
            self._keep(everything, self.store.read(everything))
        else:
            with own_randomness(_STREAM):  # a run that starts here again draws the same
                for batch in loader:
                    self.label(batch["inputs"].to(self.boxes.device), batch["index"])
            if self.store is not None and is_main_process():
                self.store.finish()
        self.store = None

        sure = self.top[..., 0].flatten()
        for place, share in enumerate((self.low, self.middle)):
            self.thresholds[place] = quantile(sure, share) if share else 0.0

    @torch.no_grad()
    def label(self, inputs: Tensor, index: Tensor) -> None:
        """Draw and store crops and labels: images N x 3 x H x W, their numbers.

        Every process stores what all of them labelled, so N is the same on each.
        """
        drawn = [self.drawn(len(inputs)) for _ in range(self.boxes.shape[1])]
        everywhere = gathered(index)
        store = self.store
        if store is not None and store.known[everywhere.cpu()].all():
            self._keep(everywhere, store.read(everywhere))
            return
        made = []
        for boxes, flips in drawn:
            if store is not None:  # the teacher sees the box that is kept
                boxes = boxes.half().float()
            crop = replayed(inputs, boxes, flips)
            found = self.teachers[0](crop).float().softmax(1).topk(TOP, dim=1)
            parts = boxes, flips[:, None], found.values, found.indices
            made.append(torch.cat([part.to(self.top) for part in parts], 1))
        boxes, flips, top, classes = gathered(torch.stack(made, 1)).split(
            (4, 1, TOP, TOP), dim=2
        )
        rows = boxes, flips[..., 0] > 0, top, classes.int()
        if store is not None:
            rows = boxes, rows[1], top.half().float(), rows[3]
            if is_main_process():
                store.write(everywhere, rows)
        self._keep(everywhere, rows)

    def _keep(self, index: Tensor, rows: Sequence[Tensor]) -> None:
        """Rows of the store into the buffers."""
        index = index.to(self.boxes.device)
        for buffer, values in zip(
            (self.boxes, self.flips, self.top, self.classes), rows, strict=True
        ):
            buffer[index] = values.to(buffer)

    def _opened(self) -> LabelStore:
        """The file of labels of this teacher and these crops."""
        maker = fingerprint(self.teachers[0], self.area, self.num_classes)
        count, crops = self.flips.shape
        store = LabelStore(self.labels, count, crops, maker)
        barrier()  # every process has looked before the main one writes
        if is_main_process():
            store.begin()
        barrier()
        return store

    def loss_teacher(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """The teacher's cross-entropy on one crop of each image."""
        return super().loss_teacher(replayed(inputs, *self.drawn(len(inputs))), targets)

    def loss_distill(
        self, inputs: Tensor, targets: Tensor, index: Tensor, **_
    ) -> dict[str, Tensor]:
        """On ``visits`` stored crops an image: N x 3 x H x W, N labels, N numbers."""
        count, crops = len(inputs), self.boxes.shape[1]
        order = torch.rand(count, crops, device=inputs.device).argsort(1)
        chosen = order[:, : self.visits].flatten()
        rows = index.repeat_interleave(self.visits), chosen
        images = inputs.repeat_interleave(self.visits, 0)
        z = self.student(replayed(images, self.boxes[rows], self.flips[rows]))
        soft = marginal_smoothing(self.top[rows], self.classes[rows], self.num_classes)
        truth = targets.repeat_interleave(self.visits)
        low, middle = self.thresholds.tolist()
        labels, kept = calibrated(soft, truth, low, middle, eps=self.eps)
        each = soft_cross_entropy(z, labels, reduction="none")
        return {"loss": masked_mean(each, kept), "kept": kept.float().mean()}
