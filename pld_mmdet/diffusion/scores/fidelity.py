"""Pictures beside the true ones: PSNR, of all and of groups."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.nn.functional import unfold

from pld_mmdet.diffusion.data.ring import energy_distance
from pld_mmdet.registry import METRICS


def psnr(pictures: Tensor, references: Tensor) -> Tensor:
    """10 log10(1 / mean square error) of each picture, values in [0, 1].

    Args:
        pictures: [N, ...].
        references: [N, ...].

    Returns:
        [N] in decibels; equal pictures have 100.
    """
    error = (pictures.float() - references.float()).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=1e-10))


@METRICS.register_module()
class PSNR(BaseMetric):
    """Mean ``psnr`` of ``samples`` beside ``references``, clipped to [0, 1].

    Args:
        groups: Names of entries of a batch's answers [N]: where one is true, the
            picture also counts for ``psnr_<name>``.
    """

    default_prefix = None

    def __init__(self, groups: Sequence[str] = (), **kwargs) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep one number a picture."""
        for sample in data_samples:
            values = psnr(sample["samples"].clamp(0, 1), sample["references"]).cpu()
            marks = [sample[name].cpu().bool().tolist() for name in self.groups]
            columns = zip(*marks, strict=True) if marks else [()] * len(values)
            self.results += list(zip(values.tolist(), columns, strict=True))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``psnr`` and one a group that has pictures."""
        found = {"psnr": sum(value for value, _ in results) / max(len(results), 1)}
        for place, name in enumerate(self.groups):
            own = [value for value, marks in results if marks[place]]
            if own:
                found[f"psnr_{name}"] = sum(own) / len(own)
        return found


@METRICS.register_module()
class PatchDistance(BaseMetric):
    """Energy distance of patches of ``samples`` to patches of ``references``.

    Whether textures look real, not whether they are where they were. Patches do not
    overlap. ``patch_distance``, small is good.

    Args:
        size: Of a patch [8].
        count: Patches of either side at most [4000].
    """

    default_prefix = None

    def __init__(self, size: int = 8, count: int = 4000, **kwargs) -> None:
        super().__init__(**kwargs)
        self.size, self.count = size, count

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the patches."""
        for sample in data_samples:
            self.results.append(
                [
                    unfold(sample[name].float(), self.size, stride=self.size)
                    .transpose(1, 2)
                    .flatten(0, 1)
                    .cpu()
                    .numpy()
                    for name in ("samples", "references")
                ]
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """One number."""
        sides = (np.concatenate(side) for side in zip(*results, strict=True))
        x, y = (torch.from_numpy(side[: self.count]) for side in sides)
        return {"patch_distance": energy_distance(x, y)}
