"""One picture of what dual polishing does: boxes on images, IoU by band."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pld_mmdet.detection.evaluation.polish_quality import BANDS
from pld_mmdet.detection.evaluation.pseudo_quality import PolishedImage
from pld_mmdet.report.pictures import spaced

# Okabe-Ito, as in the page of a run
TRUTH, BEFORE, AFTER = "#f0e442", "#d55e00", "#56b4e9"


def draw(
    images: Sequence[PolishedImage],
    mean: dict[str, float],
    spread: dict[str, float],
    shown: int = 6,
) -> bytes:
    """Evenly spaced images with their boxes, and mean IoU before and after by band.

    Args:
        images: Those with pseudo boxes; which are shown is a rule, not a choice.
        mean: Numbers of :func:`pld_mmdet.detection.pseudo_quality.measure`.
        spread: Their standard deviations over checkpoints.
        shown: How many images.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(12, 6.2), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    axes = list(left.subplots((shown + 1) // 2, 2, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    chosen = [images[n] for n in spaced(shown, len(images))]
    for axis, image in zip(axes, chosen, strict=False):
        photo = cv2.imread(str(Path(image.path)), cv2.IMREAD_COLOR)
        axis.imshow(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB))
        _boxes(axis, image.truth, TRUTH, 1.0, "-", "hidden truth")
        _boxes(axis, image.before, BEFORE, 1.6, "--", "pseudo box")
        _boxes(axis, image.after, AFTER, 1.6, "-", "polished")
    handles = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    left.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    top, bottom = right.subplots(2, 1)
    _bars(top, mean, spread, "polish", "pseudo boxes")
    _bars(bottom, mean, spread, "jittered", "objects jittered by 0.2")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _boxes(
    axis: Axes, boxes: Tensor, colour: str, width: float, style: str, label: str
) -> None:
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        axis.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style,
                label=label if n == 0 else None,
            )
        )


def _bars(
    axis: Axes,
    mean: dict[str, float],
    spread: dict[str, float],
    group: str,
    title: str,
) -> None:
    """IoU before and after, band by band; boxes of a band below it."""
    bands = [f"{a:.1f}-{b:.1f}" for a, b in itertools.pairwise(BANDS)]
    names = [*(b for b in bands if f"{group}/{b}/iou_after" in mean), "all"]
    names = [n for n in names if f"{group}/{n}/iou_after" in mean]
    for shift, moment, colour in ((-0.2, "before", BEFORE), (0.2, "after", AFTER)):
        keys = [f"{group}/{n}/iou_{moment}" for n in names]
        axis.bar(
            [n + shift for n in range(len(names))],
            [mean[k] for k in keys],
            0.38,
            yerr=[spread[k] for k in keys],
            color=colour,
            label=moment,
            error_kw=dict(linewidth=1),
        )
    counts = [f"{n}\n{mean[f'{group}/{n}/boxes']:.0f}" for n in names]
    axis.set_xticks(range(len(names)), counts, fontsize=8)
    axis.set_ylim(0.2, 1.0)
    axis.set_title(f"{title}: mean IoU", fontsize=10)
    axis.set_xlabel("IoU before; number of boxes", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, loc="upper left", frameon=False)
