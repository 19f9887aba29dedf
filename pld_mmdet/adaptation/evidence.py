"""Is a candidate safer than the source? Asked of both on the same images, no label.

A detector that was adapted may be a worse one, and its agreement with itself does not
show it: it may contradict itself less because it finds less. What it may not lose is
what the source was sure of. So the source's sure boxes are looked for again
(same class, enough overlap), and a candidate's sure boxes are looked for among *all*
boxes of the source, also the unsure ones: what the source has not even suspected is
likely made up.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

MIN_IOU = 0.5
MIN_SURE = 10  # sure boxes of the source, without which nothing is shown
MIN_OF_CLASS = 3  # likewise of a class that counts as vanished
MIN_KEPT = 0.8
MIN_BACKED = 0.8


@dataclass(frozen=True)
class Evidence:
    """How a candidate compares with the source on some images.

    Attributes:
        kept: Share of the source's sure boxes that it still finds.
        backed: Share of its sure boxes that the source at least suspected.
        growth: Its sure boxes for each one of the source.
        vanished: Labels of classes that the source was sure of three times or more
            and it never is.
        sure: The source's sure boxes.
    """

    kept: float
    backed: float
    growth: float
    vanished: tuple[int, ...]
    sure: int

    @property
    def merit(self) -> float:
        """Above 0: safe to take in the source's place, and the more the safer.

        The least of ``kept`` and ``backed`` over what is asked of them; -1 where the
        source was too seldom sure to judge, or a class has vanished.
        """
        if self.sure < MIN_SURE or self.vanished:
            return -1.0
        return min(self.kept - MIN_KEPT, self.backed - MIN_BACKED)

    def as_dict(self) -> dict:
        """For json."""
        return asdict(self)


def compare(
    source: Sequence[InstanceData],
    candidate: Sequence[InstanceData],
    threshold: float,
) -> Evidence:
    """Compare the detections of two detectors on the same images.

    Args:
        source: One entry an image: ``bboxes``, ``scores``, ``labels``.
        candidate: Likewise.
        threshold: Score above which a box counts as sure; half of it finds one again.
    """
    found = sure = backed = claimed = 0
    before: Counter[int] = Counter()
    now: set[int] = set()
    for ours, theirs in zip(source, candidate, strict=True):
        mine, yours = ours.scores > threshold, theirs.scores > threshold
        same = _same(ours, theirs)
        again = (same & (theirs.scores > threshold / 2)).any(1)[mine]
        found, sure = found + int(again.sum()), sure + int(mine.sum())
        backed += int(same.any(0)[yours].sum())
        claimed += int(yours.sum())
        before.update(ours.labels[mine].tolist())
        now |= set(theirs.labels[yours].tolist())
    return Evidence(
        kept=found / sure if sure else 1.0,
        backed=backed / claimed if claimed else 0.0,
        growth=claimed / sure if sure else float(claimed > 0),
        vanished=tuple(
            sorted(k for k, n in before.items() if n >= MIN_OF_CLASS and k not in now)
        ),
        sure=sure,
    )


def _same(ours: InstanceData, theirs: InstanceData) -> Tensor:
    """[N, M]: same class, enough overlap."""
    if not len(ours) or not len(theirs):
        return torch.zeros(len(ours), len(theirs), dtype=torch.bool)
    overlap = bbox_overlaps(ours.bboxes.float(), theirs.bboxes.float())
    return (overlap >= MIN_IOU) & (ours.labels[:, None] == theirs.labels)
