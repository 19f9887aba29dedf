"""Multiple-instance learning: bags of which only some are known to hold a positive."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, METRICS
from pld_mmdet.weak_supervision.data.proportions import auc


@DATASETS.register_module()
class InstanceBags(Dataset):
    """Random bags of one size, half of them with some positive instances.

    A sample is an instance: ``dict(inputs, targets=its hidden label 0 or 1, bag_label=0
    or 1, bag=number of its bag, index=place among the instances)``. With ``whole`` it
    is a bag, and all but ``bag_label`` and ``bag`` have the bag's size in front. A
    method may read ``targets`` for its log only.

    Args:
        dataset: Config of a data set with ``targets``.
        positive: Its labels that are positive.
        bags: How many; the first half is positive.
        size: Instances of a bag.
        share: Of the instances of a positive bag that are positive; one at least.
        seed: Which instances meet.
        replace: An image may be in several bags [False].
        whole: Samples are bags.
        positive_only: Leave the negative bags out; numbers of bags and instances stay.

    Raises:
        UserError: Too few images for so many bags.
    """

    def __init__(
        self,
        dataset: dict,
        positive: Sequence[int],
        bags: int,
        size: int,
        share: float = 0.1,
        seed: int = 0,
        replace: bool = False,
        whole: bool = False,
        positive_only: bool = False,
    ) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        labels = torch.isin(self.dataset.targets, torch.tensor(list(positive)))
        holds = max(1, round(size * share))
        full = bags // 2
        wanted = {True: full * holds, False: bags * size - full * holds}
        dice = torch.Generator().manual_seed(seed)
        drawn = {}
        for kind, count in wanted.items():
            places = torch.nonzero(labels == kind).flatten()
            if len(places) < (1 if replace else count):
                word = "positive" if kind else "negative"
                raise UserError(
                    f"InstanceBags: {bags} bags of {size} want {count} {word} "
                    f"images, and there are {len(places)}.",
                    "Lower `bags` or `size`, or set replace=True.",
                )
            rounds = -(-count // len(places))
            orders = [
                torch.randperm(len(places), generator=dice) for _ in range(rounds)
            ]
            drawn[kind] = places[torch.cat(orders)[:count]] if count else places[:0]
        ones = drawn[True].view(full, holds)
        rest = drawn[False][: full * (size - holds)].view(full, size - holds)
        mixed = torch.cat([ones, rest], 1)
        order = torch.rand(full, size, generator=dice).argsort(1)
        zeros = drawn[False][full * (size - holds) :].view(bags - full, size)
        self.members = torch.cat([mixed.gather(1, order), zeros])
        self.hidden = labels[self.members].long()
        self.bag_labels = (torch.arange(bags) < full).long()
        self.whole, self.size = whole, size
        self.kept = torch.arange(full if positive_only else bags)
        self.targets = self.hidden[self.kept].flatten()
        self.metainfo = {"classes": ("negative", "positive")}

    def __len__(self) -> int:
        return len(self.kept) * (1 if self.whole else self.size)

    def __getitem__(self, index: int) -> dict:
        if self.whole:
            parts = [self._instance(int(index), i) for i in range(self.size)]
            sample = {
                key: torch.stack([torch.as_tensor(part[key]) for part in parts])
                for key in ("inputs", "targets", "index")
            }
            return {**sample, "bag_label": parts[0]["bag_label"], "bag": int(index)}
        return self._instance(int(index) // self.size, int(index) % self.size)

    def _instance(self, bag: int, place: int) -> dict:
        return {
            "inputs": self.dataset[int(self.members[bag, place])]["inputs"],
            "targets": self.hidden[bag, place],
            "bag_label": self.bag_labels[bag],
            "bag": bag,
            "index": bag * self.size + place,
        }


@METRICS.register_module()
class MILMetric(BaseMetric):
    """``auc`` of instances and ``bag_auc`` of bags, in percent.

    Reads ``logits`` [N, 2], ``targets``, ``bag`` and ``bag_label`` of a prediction. A
    bag's score is the mean of its instances' probabilities. Where a prediction has
    ``prototype_score`` [N], ``prototype_auc`` is its AUC. Instances whose label is
    unknown (-1) count in ``bag_auc`` alone.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep scores and labels of each instance."""
        for sample in data_samples:
            columns = [
                sample["logits"].float().softmax(1)[:, 1],
                sample.get("prototype_score", torch.full_like(sample["bag"], -1)),
                *(sample[key] for key in ("targets", "bag", "bag_label")),
            ]
            rows = torch.stack([column.double().cpu() for column in columns], 1)
            self.results.extend(map(tuple, rows.tolist()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Over all instances and all bags."""
        scores, prototypes, targets, bags, labels = torch.tensor(results).double().T
        numbers, bag = bags.unique(return_inverse=True)
        mean = torch.zeros(len(numbers)).double().index_add_(0, bag, scores)
        mean /= bag.bincount()
        of_bag = torch.zeros(len(numbers)).double().index_copy_(0, bag, labels)
        found = {"bag_auc": auc(mean, of_bag)}
        known = targets >= 0
        if known.any():
            found["auc"] = auc(scores[known], targets[known])
            if (prototypes >= 0).all():
                found["prototype_auc"] = auc(prototypes[known], targets[known])
        return {name: 100 * value for name, value in found.items()}
