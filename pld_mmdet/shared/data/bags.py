"""Bags of samples that were seen together: instances, and what is known of a bag."""

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS


@DATASETS.register_module()
class Bags(Dataset):
    """The crops of one scene as one sample: a bag and its instances.

    A sample is ``dict(inputs=[size, C, H, W], mask=[size] bool: where there is an
    instance, instances=[size] their hidden labels, -1 where there is none,
    proportions=[K] shares of the classes in the bag, targets, index)``. ``targets`` is
    1 where the bag holds an instance of the class ``positive``, else 0.

    ``members`` lists the places of each bag's instances in the data set,
    ``proportions`` is [B, K]; a method that reads instances one by one takes
    ``bag_of`` [N], the number of each one's bag.

    Args:
        dataset: Config (or data set) with ``targets``, and ``scenes`` [N]: what belongs
            together. ``pld_mmdet.StreetCrops(background=True)`` has both.
        size: Instances of a bag; of a larger one the first are taken [the largest's].
        positive: Name of the class that makes a bag positive [None: all are 0].

    Raises:
        UserError: No scenes, all of them of one sample, or an unknown class.
    """

    def __init__(
        self, dataset: dict, size: int | None = None, positive: str | None = None
    ) -> None:
        if isinstance(dataset, dict):
            dataset = ROOT_DATASETS.build(dataset)
        self.dataset, self.metainfo = dataset, dataset.metainfo
        name, scenes = type(dataset).__name__, getattr(dataset, "scenes", None)
        if scenes is None or len(scenes.unique()) == len(scenes):
            raise UserError(
                f"{name} does not say which samples were seen together.",
                "Use generated StreetCrops; a folder of images has no scenes.",
            )
        classes = list(self.metainfo["classes"])
        if positive is not None and positive not in classes:
            raise UserError(
                f"{name} has no class {positive!r}.",
                f"Choose `positive` from {', '.join(classes)}.",
            )
        _, self.bag_of = scenes.unique(return_inverse=True)
        order = self.bag_of.argsort(stable=True)
        members = order.split(self.bag_of.bincount().tolist())
        self.size = size or max(map(len, members))
        self.members = [places[: self.size] for places in members]
        self.proportions = torch.stack(
            [self._shares(places, len(classes)) for places in self.members]
        )
        self.targets = torch.zeros(len(self.members), dtype=torch.long)
        if positive is not None:
            self.targets = (self.proportions[:, classes.index(positive)] > 0).long()

    def _shares(self, places: Tensor, classes: int) -> Tensor:
        counts = self.dataset.targets[places].bincount(minlength=classes)
        return counts / len(places)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> dict:
        places = self.members[index]
        images = torch.stack([self.dataset[int(i)]["inputs"] for i in places])
        inputs = images.new_zeros(self.size, *images.shape[1:])
        inputs[: len(places)] = images
        instances = torch.full((self.size,), -1)
        instances[: len(places)] = self.dataset.targets[places]
        return {
            "inputs": inputs,
            "mask": torch.arange(self.size) < len(places),
            "instances": instances,
            "proportions": self.proportions[index],
            "targets": self.targets[index],
            "index": int(index),
        }
