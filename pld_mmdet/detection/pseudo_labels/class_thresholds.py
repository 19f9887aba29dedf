"""Class-wise thresholds that keep the same share of every class."""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from pld_mmdet.errors import UserError

BINS = 100


class ClassThresholds(nn.Module):
    """Thresholds from the score distribution of each class over the last batches.

    One threshold for all classes keeps many boxes of those that the detector scores
    high and few of the others. Here ``base`` only says *how many*: of all detections
    above ``floor`` in the window, the share ``r`` that lies above ``base``. Each
    class then gets the threshold above which the share ``r`` of its own detections
    lies (to the nearest hundredth; among equals the one nearest to ``base``).

    The scores are kept as counts in a ring of ``window`` batches, [window, C, 100]. The
    ring is a buffer: a resumed run has the thresholds of the run that stopped.

    Args:
        num_classes: C.
        base: The single threshold that the class-wise ones replace.
        floor: Detections at or below are not counted (most are clutter).
        lowest: No threshold lies below.
        highest: No threshold lies above.
        window: Training iterations that are remembered.
        min_count: A class with fewer detections in the window has ``base``.

    Source: ours; the equal share is LabelMatch's idea (CVPR 2022) without its labels.
    """

    def __init__(
        self,
        num_classes: int,
        base: float,
        floor: float = 0.3,
        lowest: float = 0.4,
        highest: float = 0.9,
        window: int = 100,
        min_count: int = 20,
    ) -> None:
        super().__init__()
        if not 0 <= floor <= lowest <= base <= highest <= 1:
            raise UserError(
                f"Class thresholds: floor={floor}, lowest={lowest}, base={base}, "
                f"highest={highest} do not grow within [0, 1].",
                "base is hpl_threshold; the others are keys of class_thresholds.",
            )
        if window < 1:
            raise UserError(f"window={window} remembers nothing.", "Use 1 or more.")
        self.base = base
        self.floor = floor
        self.lowest = lowest
        self.highest = highest
        self.min_count = min_count
        shape = window, num_classes, BINS
        self.register_buffer("counts", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._register_load_state_dict_pre_hook(_keep_window, with_module=True)

    @torch.no_grad()
    def observe(self, labels: Tensor, scores: Tensor) -> None:
        """Put one batch's detections, [N], into the window (those of all processes)."""
        window, classes, _ = self.counts.shape
        # bin b holds b/100 < score <= (b+1)/100, so "above b/100" is "from bin b on"
        place = (scores.float() * BINS).ceil().long().clamp(1, BINS) - 1
        index = labels.long() * BINS + place
        counted = torch.bincount(index, minlength=classes * BINS)
        counted = counted.view(classes, BINS).to(self.counts)
        all_reduce(counted)
        self.counts[self.steps % window] = counted
        self.steps += 1

    @torch.no_grad()
    def values(self) -> Tensor:
        """The thresholds now, float [C]."""
        counts = self.counts.sum(0)
        # above[c, b]: detections of class c with a score above b/100, b = 0..100
        above = counts.flip(1).cumsum(1).flip(1)
        above = torch.cat([above, torch.zeros_like(above[:, :1])], dim=1).double()
        base, floor = round(self.base * BINS), round(self.floor * BINS)
        meant = above[:, floor]
        share = above[:, base].sum() / meant.sum().clamp(min=1)
        distance = (above - share * meant[:, None]).abs()
        ticks = torch.arange(BINS + 1, device=above.device)
        nearest = (distance + 1e-6 * (ticks - base).abs()).argmin(dim=1)
        values = (nearest.float() / BINS).clamp(self.lowest, self.highest)
        return values.where(meant >= self.min_count, values.new_tensor(self.base))


def _keep_window(module: ClassThresholds, state_dict: dict, prefix: str, *args) -> None:
    """Start with an empty window from a checkpoint that never had one."""
    if not any(key.startswith(prefix) for key in state_dict):
        state_dict[prefix + "counts"] = torch.zeros_like(module.counts)
        state_dict[prefix + "steps"] = torch.zeros_like(module.steps)
