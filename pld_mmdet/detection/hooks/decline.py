"""A sign for a slow decline: boxes that the source was sure of and that get lost.

A window of :class:`pld_mmdet.CollapseGuardHook` is compared with the first one, which
shows a wreck; a teacher that forgets slowly stays above all of those limits
(docs/results.md: 47 to 38.4 AP50 without a sign). What such a teacher loses are boxes
that the source was sure of.
"""

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import nn

from pld_mmdet.detection.detectors.teacher_student import (
    STOCK_BRANCHES,
    high_confidence,
)
from pld_mmdet.detection.hooks.collapse_signs import FEWEST_BOXES
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError

_STREAM = 5  # see engine/data/seeding.py; of data sets that draw on their own
_ROUNDING = 1e-9


def kept_share(
    before: Sequence[InstanceData], now: Sequence[InstanceData], min_iou: float = 0.5
) -> tuple[int, int]:
    """How many of the source's confident boxes a teacher still finds.

    Args:
        before: Confident boxes of the source (after AdaBN) on some images.
        now: Detections of the teacher on the same images, from half the threshold on.
        min_iou: Overlap with a box of the same class that counts as found again.

    Returns:
        Boxes that are found again, and all of them; new boxes do not count.
    """
    found = total = 0
    for ours, theirs in zip(before, now, strict=True):
        total += len(ours)
        if len(ours) and len(theirs):
            overlap = bbox_overlaps(ours.bboxes.float(), theirs.bboxes.float())
            same = ours.labels[:, None] == theirs.labels
            found += int(((overlap >= min_iou) & same).any(1).sum())
    return found, total


class SourceBoxes:
    """What the source was sure of on a few images, and how much of it is still found.

    Before the first step (after AdaBN) the teacher labels images that are spread
    evenly over the training set; these boxes are remembered. Whoever asks later learns
    how many of them the teacher finds again: the same class, enough overlap, a score
    from half the threshold on. Images keep their sizes; each is looked at by itself.
    With several processes each looks at its share of the images.

    Args:
        images: How many (of the weak view; labelled images, which have none, are left
            out).
        min_kept: Alarm when a smaller share of the boxes is found again.
        max_decline: Alarm when the share lies further below the best one of the run.
        min_iou: Overlap that counts as found again.
        acts: Whether such an alarm counts towards the guard's stop or roll-back. False:
            it is only said.

    Attributes:
        boxes: One an image, on the CPU; None before :meth:`label`.

    Raises:
        UserError: An argument is no number of images, or no share.
    """

    def __init__(
        self,
        images: int = 16,
        min_kept: float = 0.7,
        max_decline: float = 0.1,
        min_iou: float = 0.5,
        acts: bool = True,
    ) -> None:
        shares = dict(min_kept=min_kept, max_decline=max_decline, min_iou=min_iou)
        wrong = [f"{k}={v}" for k, v in shares.items() if not 0 <= v <= 1]
        wrong += [f"images={images}"] if images < 1 else []
        if wrong:
            raise UserError(
                f"The guard's probe cannot work with {', '.join(wrong)}.",
                "Write at least one image, and shares between 0 and 1, for example "
                "probe=dict(images=16, min_kept=0.7, max_decline=0.1).",
            )
        self.images = images
        self.min_kept = min_kept
        self.max_decline = max_decline
        self.min_iou = min_iou
        self.acts = acts
        self.boxes: list[InstanceData] | None = None
        self._least = 0.0
        self._views: list[dict | None] | None = None

    @property
    def total(self) -> int:
        """Boxes that are remembered."""
        return sum(len(boxes) for boxes in self.boxes or ())

    @property
    def can_judge(self) -> bool:
        """Whether there are enough boxes for a share to mean something."""
        return self.total >= FEWEST_BOXES

    def label(self, model: nn.Module, dataset) -> None:
        """Remember what the teacher is sure of now.

        Args:
            model: With ``teacher_boxes`` and ``hpl_threshold``.
            dataset: Of the training loader.
        """
        sure = model.hpl_threshold
        self._least = sure / 2
        parts = all_gather_object(self._look(model, dataset, sure))
        count = sum(map(len, parts))
        self.boxes = [parts[n % len(parts)][n // len(parts)] for n in range(count)]
        if not self.can_judge:
            print_log(
                f"Collapse guard: the source has {self.total} confident boxes on "
                f"{count} images; {FEWEST_BOXES} are needed to tell whether the "
                "teacher loses what the source knew, so a slow decline is not looked "
                "for.",
                "current",
            )

    def kept(self, model: nn.Module, dataset) -> tuple[int, int] | None:
        """Boxes that the teacher finds again, and all; None: there are too few.

        Args:
            model: With ``teacher_boxes``.
            dataset: The one that was labelled.
        """
        if not self.can_judge:
            return None
        now = self._look(model, dataset, self._least)
        mine = self.boxes[get_rank() :: get_world_size()]
        counts = torch.tensor(kept_share(mine, now, self.min_iou))
        all_reduce(counts, op="sum")
        found, total = counts.tolist()
        return found, total

    def judge(self, found: int, best: float) -> list[str]:
        """A sentence when too much is lost; empty when all is well.

        Args:
            found: Boxes that are found again.
            best: Largest share that the run has had so far.
        """
        total, share = self.total, found / self.total
        low = share < self.min_kept
        fallen = best - share > self.max_decline + _ROUNDING
        if not (low or fallen):
            return []
        limits = [f"at least {_percent(self.min_kept)} are expected"] if low else []
        if fallen:
            limits.append(f"it was {_percent(best)} at best")
        return [
            f"the teacher finds {found} of {total} boxes again that the source was "
            f"sure of ({_percent(share)}; {', '.join(limits)})"
        ]

    def state(self) -> dict | None:
        """What a checkpoint carries: plain tensors and numbers; None: nothing yet."""
        if self.boxes is None:
            return None
        boxes = [dict(bboxes=b.bboxes, labels=b.labels) for b in self.boxes]
        return dict(boxes=boxes, least=self._least)

    def load(self, state: dict | None) -> None:
        """Take over what :meth:`state` gave."""
        if state is not None:
            self.boxes = [InstanceData(**boxes) for boxes in state["boxes"]]
            self._least = state["least"]

    def _look(self, model: nn.Module, dataset, above: float) -> list[InstanceData]:
        """Boxes on this process's images; the images are read once and held."""
        if self._views is None:
            count = min(self.images, len(dataset))
            if self.boxes is not None:  # of a run that was begun with another number
                count = len(self.boxes)
            chosen = [n * len(dataset) // count for n in range(count)]
            with own_randomness(_STREAM):
                self._views = [
                    _weak_view(dataset[n])
                    for n in chosen[get_rank() :: get_world_size()]
                ]
        found = []
        for view in self._views:
            seen = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
            if view is not None:
                seen = high_confidence(model.teacher_boxes(view).cpu(), above)
            found.append(InstanceData(bboxes=seen.bboxes, labels=seen.labels))
        return found


def _weak_view(sample: dict) -> dict | None:
    """The weak view of a sample as if it were all of it; None: there is none."""
    if not isinstance(sample["inputs"], dict):
        return sample
    views = {
        key: {STOCK_BRANCHES.get(name, name): view for name, view in value.items()}
        for key, value in sample.items()
        if key in ("inputs", "data_samples")
    }
    if views["inputs"].get("weak") is None:
        return None
    return {key: value["weak"] for key, value in views.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
