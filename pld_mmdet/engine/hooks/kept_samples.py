"""Some samples of a test, for a picture of them."""

from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook

from pld_mmdet.registry import HOOKS

FILE = "samples.npz"


@HOOKS.register_module()
class KeptSamplesHook(Hook):
    """Writes the first ``samples`` and ``references`` of a test into samples.npz.

    The file lies in the test's own folder. ``tools/reproduce.py`` draws the pictures of
    an experiment from it (``pld_mmdet.experiments.panels``).

    Args:
        count: Samples at most.
    """

    def __init__(self, count: int = 2000) -> None:
        self.count = count
        self.kept: dict[str, list[np.ndarray]] = {}

    def before_test(self, runner) -> None:
        """Begin anew."""
        self.kept = {"samples": [], "references": []}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Keep what a batch's answers show."""
        for answer in outputs or []:
            for name, values in self.kept.items():
                room = self.count - sum(map(len, values))
                if name in answer and room > 0:
                    values.append(answer[name][:room].detach().cpu().numpy())

    @master_only
    def after_test(self, runner) -> None:
        """Write the file."""
        found = {name: np.concatenate(v) for name, v in self.kept.items() if v}
        if found:
            np.savez_compressed(Path(runner.work_dir) / FILE, **found)
