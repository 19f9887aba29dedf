"""Several draws of a few labelled images: a score that does not hang on one draw."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS


@DATASETS.register_module()
class LabelSubsets(Dataset):
    """``subsets`` random draws of ``labelled`` images a class, one after the other.

    A sample is the data set's own, with ``subset``: the number of its draw. A model
    that learns from each draw alone is scored by the mean over them.

    Args:
        dataset: Config of a data set with a tensor ``targets``.
        labelled: Images of each class in one draw.
        subsets: Draws.
        seed: Of the draws; not the run's, so that all runs use the same ones [0].

    Raises:
        UserError: A class has fewer images.
    """

    def __init__(
        self, dataset: dict, labelled: int, subsets: int, seed: int = 0
    ) -> None:
        self.dataset = DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo
        targets: Tensor = self.dataset.targets
        classes = [torch.nonzero(targets == c).flatten() for c in targets.unique()]
        fewest = min(len(members) for members in classes)
        if labelled > fewest:
            raise UserError(
                f"A class of {type(self.dataset).__name__} has {fewest} images, not "
                f"{labelled}.",
                "Lower `labelled`.",
            )
        dice = torch.Generator().manual_seed(seed)
        self.numbers = torch.cat(
            [
                members[torch.randperm(len(members), generator=dice)[:labelled]]
                for _ in range(subsets)
                for members in classes
            ]
        ).tolist()
        self.length = labelled * len(classes)  # of one draw

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict:
        sample = self.dataset[self.numbers[index]]
        return {**sample, "subset": int(index) // self.length}
