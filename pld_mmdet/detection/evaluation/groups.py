"""AP50 of groups of classes: base and novel ones."""

from collections.abc import Sequence

import numpy as np
from mmengine.logging import MMLogger, print_log

from pld_mmdet.detection.evaluation.ap50 import AP50Metric
from pld_mmdet.errors import UserError
from pld_mmdet.registry import METRICS


@METRICS.register_module()
class GroupAP50Metric(AP50Metric):
    """:class:`AP50Metric` and the means over named groups of classes.

    For each convention and group a key such as ``coco/AP50_novel``: open-vocabulary
    papers report ``coco/AP50_novel|base`` and ``coco/AP50`` (all), few-shot papers
    ``voc07/AP50_novel`` (nAP50) on VOC and, with ``average=True``, ``coco/AP_novel``
    (nAP) on COCO. Classes without any object do not count.

    Args:
        groups: Group name -> class names.
        **kwargs: As in :class:`AP50Metric`.

    Raises:
        UserError: A group is empty, or names a class that the data set lacks.
    """

    def __init__(self, groups: dict[str, Sequence[str]], **kwargs) -> None:
        super().__init__(**kwargs)
        for name, classes in groups.items():
            if not classes or name in ("small", "medium", "large"):
                raise UserError(
                    f"GroupAP50Metric: group {name!r} is empty or has the name of a "
                    "size.",
                    "Write groups=dict(base=[...], novel=[...]) with class names.",
                )
        self.groups = {name: list(classes) for name, classes in groups.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """All numbers of ``AP50Metric``, and those of the groups."""
        known = set((self.dataset_meta or {}).get("classes", ()))
        for name, classes in self.groups.items():
            strange = [c for c in classes if c not in known]
            if strange:
                raise UserError(
                    f"GroupAP50Metric: group {name!r} names {strange[0]!r}, which is "
                    f"no class of the data set ({', '.join(sorted(known))}).",
                    "Correct the groups in the config.",
                )
        metrics = super().compute_metrics(results)
        lines = []
        for key in self.conventions:
            means = {}
            for name, classes in self.groups.items():
                values = [metrics.get(f"{key}/{c}", np.nan) for c in classes]
                present = [v for v in values if not np.isnan(v)]
                means[name] = float(np.mean(present)) if present else float("nan")
            metrics |= {f"{key}_{name}": value for name, value in means.items()}
            text = ", ".join(f"{n} {100 * v:.1f}" for n, v in means.items())
            lines.append(f"{key}: {text}, all {100 * metrics[key]:.1f}")
        print_log("\n".join(lines), MMLogger.get_current_instance())
        return metrics
