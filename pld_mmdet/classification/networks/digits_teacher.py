"""A teacher for the digits that is wrong in a known way."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from pld_mmdet.engine.run.optional import require
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.data.digits import Digits


@MODELS.register_module()
class ConfusedDigitsTeacher(nn.Module):
    """Logistic regression on digits of which two classes mostly bear a wrong label.

    It stands where a vision-language model stands: knows most classes well, confuses
    some systematically, and nobody trains it. It is *no* vision-language model. It is
    fitted when it is built, always to the same weights, on all training images of
    ``Digits``, so it has seen the images that a student gets without labels.

    Args:
        confusions: (class, label instead, share of its images) triples.
        seed: Which images bear the wrong label.
    """

    def __init__(
        self,
        confusions: Sequence[tuple[int, int, float]] = ((3, 8, 0.6), (7, 1, 0.6)),
        seed: int = 0,
    ) -> None:
        super().__init__()
        weight, bias = _fit(tuple(map(tuple, confusions)), seed)
        self.linear = nn.Linear(64, 10)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(weight))
            self.linear.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: Tensor) -> Tensor:
        """N x 1 x 8 x 8 -> N x 10 logits."""
        return self.linear(x.flatten(1))


@lru_cache
def _fit(
    confusions: tuple[tuple[int, int, float], ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [10, 64] and biases [10]; a process fits once."""
    regression = require("sklearn.linear_model", "weak_supervision")
    data, rng = Digits("train"), np.random.default_rng(seed)
    labels = data.targets.numpy().copy()
    for true, wrong, share in confusions:
        images = np.flatnonzero(data.targets.numpy() == true)
        labels[rng.permutation(images)[: round(share * len(images))]] = wrong
    fitted = regression.LogisticRegression(max_iter=2000)
    fitted.fit(data.images.flatten(1).numpy().astype(np.float64), labels)
    return fitted.coef_, fitted.intercept_
