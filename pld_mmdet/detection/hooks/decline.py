"""A sign for a slow decline: what one window after the other loses a little of.

:class:`pld_mmdet.CollapseGuardHook` compares each window with the first one and sees a
wreck; a teacher that forgets slowly stays above all of its limits (docs/results.md: 47
to 38.4 AP50 without a sign). What such a teacher loses are boxes that the source was
sure of, and it loses them window by window. Not a part of the guard yet: no run of that
kind has been recorded with :func:`kept_share`, so its limits rest on no measurement.
"""

from collections.abc import Sequence

import numpy as np
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData


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


def slow_decline(
    values: Sequence[float], fall: float = 0.1, certainty: float = 6.0
) -> float | None:
    """Whether a series comes down along a line, by enough and beyond its noise.

    Straight lines are fitted to the last 8, 16, 32, ... values. A decline is a line
    that falls by more than ``fall`` of where it begins, and whose slope is more than
    ``certainty`` times its standard error: a slow fall needs many windows, a noisy one
    more, and a single bad window is noise.

    Args:
        values: A share that a sound run keeps or raises, one number a window.
        fall: Relative fall.
        certainty: Standard errors. With 6, at most 3 of 100 level runs of forty windows
            whose noise is a tenth of their level raise an alarm (a test).

    Returns:
        The relative fall of the surest such line; None: sound, or fewer than 8 windows.

    Example:
        >>> slow_decline([0.8, 0.8, 0.78, 0.76, 0.73, 0.7, 0.66, 0.64])
        0.2122
        >>> slow_decline([0.7, 0.8, 0.7, 0.8, 0.7, 0.8, 0.7, 0.8]) is None
        True
    """
    surest, found = certainty, None
    length = 8
    while length <= len(values):
        y = np.asarray(values[-length:], float)
        x = np.arange(length) - (length - 1) / 2
        slope = (x * y).sum() / (x * x).sum()
        rest = y - y.mean() - slope * x
        error = np.sqrt((rest**2).sum() / (length - 2) / (x * x).sum())
        begins = y.mean() + slope * x[0]
        lost = -slope * (length - 1)
        if begins > 0 and lost > fall * begins and -slope > surest * error:
            surest = -slope / error if error else np.inf
            found = round(float(lost / begins), 4)
        length *= 2
    return found
