"""INS: an instance classifier from bag labels by prototypes and contrast (2023).

Qu et al., Rethinking Multiple Instance Learning for Whole Slide Image Classification: A
Good Instance Classifier is All You Need, https://arxiv.org/abs/2307.02249. Y is what an
instance may be: (1, 0) in a negative bag, (1, 1) in a positive one; S is its soft
label::

    bag_labels:  one epoch of cross-entropy, each instance with its bag's label
    warmup:      positive bags only; L = CE(S = (.5, .5), o) + w MoCo(q, k, queue)
    prototypes:  all bags, (o, q) = encoder(view), then in this order
                 y~     = argmax softmax(o) Y
                 score  = softmax(q mu')                   # the prototypes as they are
                 mu_y~ <- m mu_y~ + (1 - m) q, one by one; unit length at the end
                 key encoder <- EMA;  k = key encoder(other view)
                 S      <- phi S + (1 - phi) onehot(argmax score Y), negatives (1, 0)
                 L = CE(S, o) + w SupCon(q; same y~ among q, k and queue, not itself)

Read for facts only: miccaiif/INS, commit cd97ba2 (train_withbag_cifar.py, model.py,
utils/utils_loss.py). Deviations: the queue starts empty (theirs: random rows); phi
falls over the steps of ``prototypes`` (theirs: by epochs that count ``warmup``
too); the bag's loss is that of the mean probability of a bag's instances in the batch
(theirs: a softmax of 512 pooled features, in a pass of its own), and off by default;
keys use the batch's statistics without shuffling over processes.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill._gather import gathered
from pld_mmdet.distill.contrastive import sup_con
from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.memory import FeatureQueue, SampleBank
from pld_mmdet.distill.teachers import Averaged, batch_statistics
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.views import contrasted, mirrored, random_view, resized_crop

#: Views by name; images lie in [0, 1].
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda images: images,
    "moved": random_view,
    "crop": lambda images: mirrored(resized_crop(images)),
    "contrasted": lambda images: contrasted(images, area=(0.2, 1.0)),
}
SCORES_FILE = "scores.csv"


def moved(rows: Tensor, chosen: Tensor, phi: float, positive: Tensor) -> Tensor:
    """Soft labels after one look at the prototypes.

    Args:
        rows: S before, N x 2.
        chosen: The class that the prototypes name, N.
        phi: Share of S that stays.
        positive: Bool N, whether the bag is positive; others become (1, 0).

    Returns:
        N x 2.
    """
    new = phi * rows + (1 - phi) * F.one_hot(chosen, 2).to(rows)
    return torch.where(positive[:, None], new, rows.new_tensor([1.0, 0.0]))


def moved_prototypes(
    prototypes: Tensor, features: Tensor, classes: Tensor, keep: float
) -> Tensor:
    """One exponential average after the other, row by row, then unit length.

    Args:
        prototypes: K x D.
        features: N x D in their order.
        classes: The prototype that each one moves, N.
        keep: Share of a prototype that stays at each row.
    """
    member = F.one_hot(classes, len(prototypes)).to(features)
    later = member.flip(0).cumsum(0).flip(0) - member  # rows of the class behind it
    weight = member * (1 - keep) * keep**later
    kept = keep ** member.sum(0)[:, None]
    return F.normalize(kept * prototypes + weight.T @ features, dim=1)


class Embedder(nn.Module):
    """A classifier whose features also have a projection of unit length.

    Args:
        network: Config of a network with ``features``, ``fc`` and ``feat_dim``.
        width: Of the projection.
    """

    def __init__(self, network: dict, width: int) -> None:
        super().__init__()
        self.network = MODELS.build(network)
        d = self.network.feat_dim
        self.project = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(inplace=True), nn.Linear(d, width)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x H x W -> N x 2 logits, N x width."""
        features = self.network.features(x)
        q = F.normalize(self.project(features).float(), dim=1)
        return self.network.fc(features), q


@MODELS.register_module()
class INS(Method):
    """Stages ``bag_labels``, ``warmup``, ``prototypes``, with ``StagedLoop``.

    The data set is a user's own, ``GivenBags``, or drawn, ``InstanceBags``; both with
    ``positive_only`` in ``warmup``. ``scores`` (no iterations, a work loader) writes
    each instance's probability and soft label into
    ``stages/<number>_scores/scores.csv``. ``max_pooling`` is the usual rival: CE of a
    bag's largest logit, on bags with ``whole=True``.

    Args:
        network: Config of a two-class network with ``features`` and ``fc``.
        num_samples: Instances of the training set.
        width: Of the embedding [128].
        queue: Keys that are kept [8192].
        weight: w, of the contrastive loss [0.5].
        temperature: Of both contrastive losses [0.07].
        proto_keep: m [0.9].
        key_keep: Of the key encoder's EMA, each iteration [0.999].
        phi: At the beginning and the end of ``prototypes`` [0.95 and 0.8].
        bag_weight: Of the bag's loss [0].
        view, key_view: Of the query and the key: ``none``, ``moved``, ``crop``,
            ``contrasted`` [contrasted and crop: theirs, without hue].
        mean, std: Subtracted from and divided out of all views [0 and 1].
    """

    default_stage = "prototypes"
    work = {"scores": "the bags"}
    prototypes: Tensor
    taught: Tensor

    def __init__(
        self,
        network: dict,
        num_samples: int,
        width: int = 128,
        queue: int = 8192,
        weight: float = 0.5,
        temperature: float = 0.07,
        proto_keep: float = 0.9,
        key_keep: float = 0.999,
        phi: tuple[float, float] = (0.95, 0.8),
        bag_weight: float = 0.0,
        view: str = "contrasted",
        key_view: str = "crop",
        mean: float = 0.0,
        std: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("INS", view=(view, tuple(VIEWS)), key_view=(key_view, tuple(VIEWS)))
        self.encoder = Embedder(network, width)
        self.key = Averaged(self.encoder)
        self.queue = FeatureQueue(queue, dict(key=width, label=1))
        self.soft = SampleBank(num_samples, 2)
        self.soft.rows.fill_(0.5)
        self.register_buffer("prototypes", torch.zeros(2, width))
        # Whether the epoch of bag labels has been: without it nothing tells the two
        # prototypes apart, and no loss would show it.
        self.register_buffer("taught", torch.zeros((), dtype=torch.bool))
        self.weight, self.temperature, self.bag_weight = weight, temperature, bag_weight
        self.proto_keep, self.key_keep, self.phi = proto_keep, key_keep, tuple(phi)
        self.view, self.key_view, self.mean, self.std = view, key_view, mean, std

    def start_stage(self, name: str, loader, folder: Path) -> None:
        """The gate of ``bag_labels``; ``scores`` writes its file."""
        if name in ("warmup", "prototypes") and not self.taught:
            raise UserError(
                f"INS: the stage `{name}` comes before `bag_labels`.",
                "Begin with an epoch of bag labels: from soft labels of (.5, .5) the "
                "prototype of the positives has no direction.",
            )
        if name == "scores":
            self.check_work(name, loader)
            self._write_scores(loader.dataset, folder / SCORES_FILE)

    def loss_bag_labels(self, inputs: Tensor, bag_label: Tensor, **_) -> dict:
        """Each instance learns its bag's label."""
        self.taught.fill_(True)
        logits, _ = self.encoder(self.seen(inputs, self.view))
        return {"loss_cls": F.cross_entropy(logits, bag_label)}

    def loss_warmup(
        self, inputs: Tensor, bag_label: Tensor, bag: Tensor, index: Tensor, **_
    ) -> dict:
        """MoCo: the own key against the queue; soft labels stay."""
        logits, q, classes, _ = self._look(inputs, bag_label)
        k = self._keys(inputs)
        found = self.queue.read()["key"]
        scores = torch.cat([(q * k).sum(1, keepdim=True), q @ found.T], 1)
        own = torch.zeros(len(q), dtype=torch.long, device=q.device)
        contrast = F.cross_entropy(scores / self.temperature, own)
        return self._losses(logits, contrast, bag_label, bag, index, k, classes)

    def loss_prototypes(
        self, inputs: Tensor, bag_label: Tensor, bag: Tensor, index: Tensor, **_
    ) -> dict:
        """Soft labels move, and equal guesses attract."""
        logits, q, classes, named = self._look(inputs, bag_label)
        k = self._keys(inputs)
        first, last = self.phi
        phi = first + (last - first) * self.progress.share
        rows = moved(self.soft.read(index), named, phi, bag_label > 0)
        self.soft.write(index, rows)
        found = self.queue.read()
        bank = torch.cat([q, k, found["key"]])
        labels = torch.cat([classes, classes, found["label"][:, 0].long()])
        own = torch.eye(len(q), len(bank), dtype=torch.bool, device=q.device)
        contrast = sup_con(
            q, bank, classes[:, None] == labels, self.temperature, own=own
        )
        return self._losses(logits, contrast, bag_label, bag, index, k, classes)

    def loss_max_pooling(
        self, inputs: Tensor, bag_label: Tensor, index: Tensor, **_
    ) -> dict:
        """The rival: bags B x size x ..., the instance that looks most positive.

        ``index`` B x size is -1 where a smaller bag has none.
        """
        held = index >= 0
        logits = self.encoder(self.seen(inputs[held], self.view))[0].float()
        margin = logits.new_full(held.shape, -torch.inf)
        margin = margin.masked_scatter(held, logits[:, 1] - logits[:, 0]).amax(1)
        return {
            "loss_bag": F.binary_cross_entropy_with_logits(margin, bag_label.float())
        }

    def predict(self, inputs: Tensor, targets: Tensor, **batch) -> list[dict]:
        """Logits N x 2 and the prototypes' probability of a positive."""
        logits, q = self.encoder(self.seen(inputs, "none"))
        score = (q @ self.prototypes.T).softmax(1)[:, 1]
        bags = {key: batch[key] for key in ("bag", "bag_label") if key in batch}
        answer = {"logits": logits, "prototype_score": score, "targets": targets}
        return [{**answer, **bags}]

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x 2."""
        return self.encoder(self.seen(inputs, "none"))[0]

    def seen(self, inputs: Tensor, view: str) -> Tensor:
        """A view as the network sees it."""
        return (VIEWS[view](inputs) - self.mean) / self.std

    def _look(self, inputs: Tensor, bag_label: Tensor) -> tuple[Tensor, ...]:
        """Logits, q, guessed classes, and what the prototypes named before moving."""
        logits, q = self.encoder(self.seen(inputs, self.view))
        may = torch.stack([torch.ones_like(bag_label), bag_label], 1)
        with torch.no_grad():
            classes = (logits.float().softmax(1) * may).argmax(1)
            named = ((q @ self.prototypes.T).softmax(1) * may).argmax(1)
            new = moved_prototypes(
                self.prototypes, gathered(q), gathered(classes), self.proto_keep
            )
            if new.isfinite().all():  # such a step is skipped by the optimizer too
                self.prototypes.copy_(new)
        return logits, q, classes, named

    @torch.no_grad()
    def _keys(self, inputs: Tensor) -> Tensor:
        ema_update(self.key, self.encoder, self.key_keep, buffers="keep")
        with batch_statistics(self.key):
            return self.key(self.seen(inputs, self.key_view))[1]

    def _losses(self, logits, contrast, bag_label, bag, index, k, classes) -> dict:
        target = self.soft.read(index)
        sure = target.new_tensor([1.0, 0.0])
        target = torch.where(bag_label[:, None] > 0, target, sure)
        self.queue.push(dict(key=k, label=classes[:, None].float()))
        losses = {
            "loss_cls": soft_cross_entropy(logits, target),
            "loss_cont": self.weight * contrast,
        }
        if self.bag_weight:
            losses["loss_bag"] = self.bag_weight * bag_loss(logits, bag, bag_label)
        return losses

    @torch.no_grad()
    def _write_scores(self, dataset, path: Path) -> None:
        was, device = self.training, self.prototypes.device
        self.eval()
        rows = []
        for first in range(0, len(dataset), 256):
            found = range(first, min(first + 256, len(dataset)))
            samples = torch.utils.data.default_collate([dataset[i] for i in found])
            score = self.outputs(samples["inputs"].to(device)).float().softmax(1)[:, 1]
            soft = self.soft.read(samples["index"])[:, 1]
            columns = (samples["bag"], samples["bag_label"], samples["index"])
            rows += zip(*(c.tolist() for c in (*columns, score, soft)), strict=True)
        self.train(was)
        if not is_main_process():
            return
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["bag", "bag_label", "instance", "score", "soft_label"])
            writer.writerows(
                [b, y, i, f"{s:.6f}", f"{t:.6f}"] for b, y, i, s, t in rows
            )


def bag_loss(logits: Tensor, bag: Tensor, bag_label: Tensor) -> Tensor:
    """BCE of the mean probability of each bag's instances in a batch.

    Args:
        logits: N x 2.
        bag: Number of each instance's bag, N.
        bag_label: 0 or 1, N.
    """
    _, place = bag.unique(return_inverse=True)
    counts = place.bincount().to(logits.device)
    p = logits.float().softmax(1)[:, 1]
    mean = torch.zeros_like(counts, dtype=p.dtype).index_add(0, place, p) / counts
    label = torch.zeros_like(mean).index_copy(0, place, bag_label.to(mean))
    mean = mean.clamp(1e-6, 1 - 1e-6)
    return -(label * mean.log() + (1 - label) * (1 - mean).log()).mean()
