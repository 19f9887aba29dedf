"""How much of the classes a linear reader finds in frozen features."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import METRICS

EXTRA = "masked_image_modeling"


@METRICS.register_module()
class LinearProbeMetric(BaseMetric):
    """Accuracy of logistic regression on features, by cross-validation.

    Reads ``features`` [N, D] and ``targets`` [N] of a prediction. The images are dealt
    into stratified folds once and for all; each fold is classified by a regression
    (scikit-learn's, L2) on the standardised features of the others. So every image
    counts, and none is read by a probe that has seen its label.

    Args:
        folds: Number of folds [5].
        c: Inverse strength of the L2 penalty [1].
    """

    default_prefix = None

    def __init__(self, folds: int = 5, c: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.folds, self.c = folds, c

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep features and label of each image."""
        for sample in data_samples:
            features = sample["features"].float().cpu().numpy()
            targets = sample["targets"].cpu().numpy()
            self.results.extend(zip(features, targets, strict=True))

    def compute_metrics(self, results: list[tuple[np.ndarray, int]]) -> dict:
        """``accuracy``: share of right images over all folds.

        Raises:
            UserError: A class has fewer images than there are folds.
        """
        features, targets = (np.stack(part) for part in zip(*results, strict=True))
        fewest = np.unique(targets, return_counts=True)[1].min()
        if fewest < self.folds:
            raise UserError(
                f"LinearProbeMetric: a class has {fewest} images, fewer than "
                f"{self.folds} folds.",
                "Lower `folds`, or evaluate on more images.",
            )
        linear = require("sklearn.linear_model", EXTRA)
        selection = require("sklearn.model_selection", EXTRA)
        scaler = require("sklearn.preprocessing", EXTRA).StandardScaler()
        regression = linear.LogisticRegression(C=self.c, max_iter=2000)
        reader = require("sklearn.pipeline", EXTRA).make_pipeline(scaler, regression)
        folds = selection.StratifiedKFold(self.folds, shuffle=True, random_state=0)
        guess = selection.cross_val_predict(reader, features, targets, cv=folds)
        return {"accuracy": float((guess == targets).mean())}
