"""Labels of some classes, unlabelled images of these and of others."""

import math
from collections.abc import Sequence

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS


def unknown_count(known: int, mismatch: float) -> int:
    """Images of unknown classes beside ``known`` others: ceil(m n / (1 - m)).

    Args:
        known: n, unlabelled images of the classes that have labels.
        mismatch: m, the share of unlabelled images that are of no such class; below 1.

    Raises:
        UserError: A share outside 0 to 1.

    Examples:
        >>> unknown_count(200, 0.6)
        300
    """
    if not 0 <= mismatch < 1:
        raise UserError(f"mismatch={mismatch} is no share.", "Choose 0 <= m < 1.")
    return math.ceil(round(mismatch * known / (1 - mismatch), 9))


@DATASETS.register_module()
class Mismatched(Dataset):
    """Labelled images of the target classes, then unlabelled ones of any class.

    A sample is the data set's own with ``targets`` from 0 to K - 1 (-1 where there is
    no label), ``index`` in this set and ``foreign``: -1 where it has a label, 0
    unlabelled of a target class, 1 of another one (for a log; no method may learn from
    it).

    Args:
        dataset: Config of a data set with a tensor ``targets``.
        classes: Numbers of the target classes there, renumbered in this order.
        labelled: Images of each target class with a label [all; then there are no
            others: a test part].
        pool: Unlabelled images of target classes, drawn as they come.
        mismatch: Share of the unlabelled images that are of other classes.
        seed: Of the draw.

    Raises:
        UserError: Unknown classes, or fewer images than asked for.
    """

    def __init__(
        self,
        dataset: dict,
        classes: Sequence[int],
        labelled: int | None = None,
        pool: int = 0,
        mismatch: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        names = self.dataset.metainfo["classes"]
        if len(classes) < 2 or not set(classes) <= set(range(len(names))):
            raise UserError(
                f"Mismatched: {list(classes)} are no target classes of {len(names)}.",
                f"Name two or more of 0 to {len(names) - 1}.",
            )
        self.metainfo = {"classes": tuple(names[c] for c in classes)}
        truth: Tensor = self.dataset.targets
        new = torch.full((len(names),), -1)
        new[list(classes)] = torch.arange(len(classes))
        truth = new[truth]
        if labelled is None:
            self.places = (truth >= 0).nonzero().flatten()
            self.targets, self.foreign = truth[self.places], self.places * 0 - 1
            return
        dice = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(truth), generator=dice)
        own = [order[truth[order] == c] for c in range(len(classes))]
        rest = torch.cat([members[labelled:] for members in own])
        rest = rest[torch.randperm(len(rest), generator=dice)[:pool]]
        strange = order[truth[order] < 0]
        wanted = unknown_count(pool, mismatch)
        fewest = min(map(len, own))
        if labelled > fewest or pool > len(rest) or wanted > len(strange):
            raise UserError(
                f"Mismatched: {labelled} labels of each of {len(own)} classes, {pool} "
                f"unlabelled images of them and {wanted} of others; there are {fewest} "
                f"of the rarest, {len(rest)} and {len(strange)}.",
                "Lower labelled, pool or mismatch.",
            )
        few = torch.cat([members[:labelled] for members in own])
        self.places = torch.cat([few, rest, strange[:wanted]])
        self.targets = torch.full((len(self.places),), -1)
        self.targets[: len(few)] = truth[few]
        counts = torch.tensor([len(few), len(rest), wanted])
        self.foreign = torch.tensor([-1, 0, 1]).repeat_interleave(counts)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        return {
            **self.dataset[int(self.places[index])],
            "targets": self.targets[index],
            "foreign": self.foreign[index],
            "index": int(index),
        }
