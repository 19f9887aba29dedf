"""Labels of a teacher that errs as detectors do: with reason, not at random."""

from collections.abc import Mapping

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS

# What a small detector of streets takes for what.
STREET_CONFUSIONS = {
    "rider": "person",
    "truck": "car",
    "bus": "truck",
    "train": "bus",
    "motorcycle": "bicycle",
}


@DATASETS.register_module()
class SystematicMistakes(Dataset):
    """A data set with the labels of a teacher that takes one class for another.

    Of each class that is confused, the hardest share of its samples gets the label of
    the other class: by default the farthest ones, as a detector errs on what is small
    and dim. So the mistakes can be predicted from the images, and more data of the
    same teacher do not average them out.

    ``targets`` are the teacher's labels, ``clean_targets`` the true ones.

    Args:
        dataset: Config (or data set) with ``targets`` and class names.
        confusions: Class taken -> class said [``STREET_CONFUSIONS``].
        share: Of the samples of a confused class.
        by: Attribute [N] of the data set that says how hard a sample is, larger is
            harder [``distances``]; None draws the samples at random.
        seed: Of that draw.

    Raises:
        UserError: An unknown class or attribute, or a share outside of 0 to 1.
    """

    def __init__(
        self,
        dataset: dict,
        confusions: Mapping[str, str] | None = None,
        share: float = 0.5,
        by: str | None = "distances",
        seed: int = 0,
    ) -> None:
        if isinstance(dataset, dict):
            dataset = ROOT_DATASETS.build(dataset)
        self.dataset, self.metainfo = dataset, dataset.metainfo
        confusions = STREET_CONFUSIONS if confusions is None else confusions
        classes = list(self.metainfo["classes"])
        unknown = {*confusions, *confusions.values()} - set(classes)
        if unknown:
            raise UserError(
                f"{type(dataset).__name__} has no class {sorted(unknown)[0]!r}.",
                f"Write `confusions` between {', '.join(classes)}.",
            )
        if not 0 <= share <= 1:
            raise UserError(f"share={share} is no share.", "Choose 0 to 1.")
        self.clean_targets = dataset.targets
        if by is None:
            dice = torch.Generator().manual_seed(seed)
            hardness = torch.rand(len(dataset), generator=dice)
        elif hasattr(dataset, by):
            hardness = getattr(dataset, by)
        else:
            raise UserError(
                f"{type(dataset).__name__} does not say {by} of its samples.",
                "Choose another `by`, or by=None.",
            )
        self.targets = self.clean_targets.clone()
        for taken, said in confusions.items():
            places = (self.clean_targets == classes.index(taken)).nonzero().flatten()
            wrong = hardness[places].argsort(descending=True, stable=True)
            wrong = places[wrong[: round(share * len(places))]]
            self.targets[wrong] = classes.index(said)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        sample = self.dataset[index]
        return {**sample, "targets": self.targets[int(index)]}
