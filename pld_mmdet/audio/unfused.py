"""UnFuSeD: pseudo-labels of a frozen encoder fine-tune a fresh one that distils."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.audio.data.labels import cluster_clips, purity
from pld_mmdet.audio.data.views import resized_window, with_background
from pld_mmdet.audio.networks.features import log_mel
from pld_mmdet.distill.contrastive import barlow_twins_loss
from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.networks.small import projector_layers
from pld_mmdet.shared.taught import PartLearns

_STREAM = 19  # keeps the fresh encoder apart from other draws


def self_distillation(
    deep: Tensor,
    shallow: Sequence[Tensor],
    targets: Tensor,
    alpha: float = 0.7,
    beta: float = 0.3,
    gamma: float = 0.003,
    detach: bool = True,
) -> dict[str, Tensor]:
    """The deepest head learns labels, the shallow ones labels and the deepest head.

    ::

        CE(deep, y) + alpha sum_i CE(shallow_i, y)
        + beta sum_i KL(softmax(deep) || softmax(shallow_i))
        + gamma sum_i mean(2 - 2 cos(shallow_i, deep))

    Args:
        deep: Logits [B, K].
        shallow: Logits [B, K] of each shallow head.
        targets: [B].
        alpha: [0.7, Sreyan88/LAPE, 81ba8d9].
        beta: [0.3, ibid.].
        gamma: [0.003, ibid.].
        detach: No gradient from the shallow heads to the deepest one [True; their code
            has False].

    Returns:
        ``loss_ce``, ``loss_shallow``, ``loss_kl``, ``loss_cos``; a weight of 0 leaves
        its term out.
    """
    teacher = deep.detach() if detach else deep
    losses = {"loss_ce": F.cross_entropy(deep, targets)}
    if alpha:
        ce = sum(F.cross_entropy(z, targets) for z in shallow)
        losses["loss_shallow"] = alpha * ce
    if beta:
        losses["loss_kl"] = beta * sum(kl(teacher, z) for z in shallow)
    if gamma:
        apart = (2 - 2 * F.cosine_similarity(z, teacher, dim=1) for z in shallow)
        losses["loss_cos"] = gamma * sum(each.mean() for each in apart)
    return losses


@MODELS.register_module()
class UnFuSeD(PartLearns):
    """Unsupervised fine-tuning with self-supervised distillation (Seth et al. 2023).

    Stages of ``StagedLoop``: ``ssl`` trains the labeller on sounds without labels;
    ``labels`` (no iterations) clusters its vectors of the task's sounds, once: PCA with
    whitening, unit length, k-means; ``unfused`` trains a fresh encoder on these labels,
    with :func:`self_distillation` into a projector behind each of its three blocks;
    ``finetune`` drops the heads, adds a linear layer and learns the true labels. Waves
    become log-mel here.

    From the authors' code (Sreyan88/LAPE, 81ba8d9). Deviations: labels come from the
    deepest layer (``label_layer='first'`` is what their indexing takes); heads have as
    many outputs as there are clusters (theirs: 99 and 32); the deepest head's logits
    are constants for the shallow ones (``detach=False`` is theirs); the labeller learns
    by Barlow Twins (theirs comes with weights of their own method); backgrounds are
    other sounds of the batch, before the normalisation (theirs: a queue of 2048).

    Args:
        encoder: Config of the labeller and of the student, ``AudioNTT``.
        num_samples: Sounds without labels N.
        num_classes: C, of the task.
        clusters: K [32].
        components: Of the PCA [128].
        label_layer: ``last``: maximum + mean over time of the frames; ``first``: the
            first block's mean.
        start: ``finetune`` begins with the ``student`` or with the ``labeller``.
        alpha: See :func:`self_distillation`.
        beta: Ibid.
        gamma: Ibid.
        detach: Ibid.
        background: Largest share of another sound [0.4].
        sample_rate: In Hz [16000].
        window: Samples of a frame [1024, BYOL-A].
        hop: Samples between frames [160, ibid.].
        bins: Mel filters [64].
        mean: Of the log-mel, subtracted [-5, ours].
        std: Of the log-mel, divided by [4.5, ours].
        projector: Widths of Barlow Twins' projector behind the encoder [256, 256].
        labels_seed: Of PCA and k-means.

    Raises:
        UserError: An unknown word.
    """

    default_stage = "finetune"
    work = {"labels": "all sounds, without labels"}

    def __init__(
        self,
        encoder: dict,
        num_samples: int,
        num_classes: int,
        clusters: int = 32,
        components: int = 128,
        label_layer: str = "last",
        start: str = "student",
        alpha: float = 0.7,
        beta: float = 0.3,
        gamma: float = 0.003,
        detach: bool = True,
        background: float = 0.4,
        sample_rate: int = 16000,
        window: int = 1024,
        hop: int = 160,
        bins: int = 64,
        mean: float = -5.0,
        std: float = 4.5,
        projector: Sequence[int] = (256, 256),
        labels_seed: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "UnFuSeD",
            label_layer=(label_layer, ("first", "last")),
            start=(start, ("student", "labeller")),
        )
        self.student = MODELS.build(encoder)
        self.labeller = MODELS.build(encoder)
        width = self.student.feat_dim
        self.head = nn.Linear(width, num_classes)
        self.classifier = nn.Linear(width, clusters)
        self.shallow = nn.ModuleList(
            projector_layers(dim, clusters, clusters, clusters)
            for dim in self.student.block_dims
        )
        self.projector = projector_layers(width, *projector)
        self.register_buffer("labels", torch.full((num_samples,), -1))
        self.register_buffer("dice", torch.randint(2**31, ()))
        self._ddp_params_and_buffers_to_ignore = ["labels"]
        self.clusters, self.components = clusters, components
        self.label_layer, self.start = label_layer, start
        self.weights = dict(alpha=alpha, beta=beta, gamma=gamma, detach=detach)
        self.background, self.labels_seed = background, labels_seed
        self.geometry = dict(sample_rate=sample_rate, window=window, hop=hop, bins=bins)
        self.mean, self.std = mean, std
        self.enter_stage(self.default_stage)

    @property
    def learners(self) -> list[nn.Module]:
        """What this stage trains."""
        return {
            "ssl": [self.labeller, self.projector],
            "unfused": [self.student, self.classifier, self.shallow],
            "finetune": [self.student, self.head],
        }.get(self.progress.stage, [])

    def check_stage(self, stage: str) -> None:
        """``labels`` has work to do and nothing to train."""
        if stage != "labels":
            super().check_stage(stage)

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Cluster before anything learns from labels; begin with fresh weights.

        Raises:
            UserError: No sounds to label, or more than ``num_samples``.
        """
        if name == "labels":
            self.check_work(name, loader)
            self.label(loader)
        if name == "unfused":
            if (self.labels < 0).all():
                raise UserError(
                    "UnFuSeD: there are no labels to learn from.",
                    "Put a stage `labels` before `unfused`.",
                )
            with own_randomness(_STREAM, int(self.dice)):  # a run that goes on, too
                fresh(self.student, self.classifier, self.shallow)
        if name == "finetune" and self.start == "labeller":
            self.student.load_state_dict(self.labeller.state_dict())

    @torch.no_grad()
    def label(self, loader: DataLoader) -> None:
        """Clusters of all sounds into ``labels``, the same on every process."""
        whole = DataLoader(
            loader.dataset, loader.batch_size or 64, collate_fn=loader.collate_fn
        )
        vectors, numbers, truth = [], [], []
        was_training = self.training
        self.eval()
        for batch in whole:
            waves = batch["inputs"].to(self.labels.device)
            with torch.autocast(waves.device.type, enabled=False):
                vectors.append(self.vectors(waves).float().cpu())
            numbers.append(batch["index"])
            truth.append(batch.get("targets", torch.zeros(0, dtype=torch.long)))
        self.train(was_training)
        numbers, truth = torch.cat(numbers), torch.cat(truth).numpy()
        if len(numbers) and int(numbers.max()) >= len(self.labels):
            raise UserError(
                f"UnFuSeD: sound {int(numbers.max())} of num_samples="
                f"{len(self.labels)}.",
                "Set model.num_samples to the number of sounds without labels.",
            )
        found = cluster_clips(
            torch.cat(vectors).numpy(), self.clusters, self.components, self.labels_seed
        )
        self.labels[numbers.to(self.labels.device)] = torch.from_numpy(found).to(
            self.labels.device
        )
        broadcast(self.labels)
        sizes = np.bincount(found, minlength=self.clusters)
        known = f", purity {purity(found, truth):.3f}" if len(truth) else ""
        print_log(
            f"{len(found)} sounds in {self.clusters} clusters of {sizes.min()} to "
            f"{sizes.max()}{known}",
            "current",
        )

    def vectors(self, waves: Tensor) -> Tensor:
        """What the labeller makes of waves [B, S]: [B, D]."""
        means, frames = self.labeller(self.mel(waves)[:, None])
        if self.label_layer == "first":
            return means[0]
        return max_and_mean(frames)

    def mel(self, waves: Tensor, view: bool = False) -> Tensor:
        """Normalised log-mel [B, bins, T] of waves [B, S], or a random view of it."""
        with torch.no_grad(), torch.autocast(waves.device.type, enabled=False):
            mel = log_mel(waves.float(), **self.geometry).transpose(1, 2)
            if view and self.background and len(mel):
                mel = with_background(mel, self.background)
            mel = (mel - self.mean) / self.std
            return resized_window(mel) if view else mel

    def loss_ssl(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Barlow Twins of two views of waves [B, S]."""
        first, second = (
            self.projector(max_and_mean(self.labeller(mel[:, None])[1]))
            for mel in (self.mel(inputs, view=True) for _ in range(2))
        )
        return {"loss_ssl": barlow_twins_loss(first, second)}

    def loss_unfused(self, inputs: Tensor, index: Tensor, **_) -> dict[str, Tensor]:
        """Pseudo-labels and self-distillation: waves [B, S], their numbers [B]."""
        means, frames = self.student(self.mel(inputs, view=True)[:, None])
        deep = self.classifier(max_and_mean(frames))
        shallow = [head(x) for head, x in zip(self.shallow, means, strict=True)]
        return self_distillation(deep, shallow, self.labels[index], **self.weights)

    def loss_finetune(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy with the true labels: waves [B, S], [B]."""
        return {"loss": F.cross_entropy(self.outputs(inputs), targets)}

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits [B, C] of waves [B, S]; the mean over time."""
        return self.head(self.student.features(self.mel(inputs)[:, None]))


def max_and_mean(frames: Tensor) -> Tensor:
    """Pooling over time of the pre-training: [B, T, D] -> [B, D]."""
    return frames.max(1).values + frames.mean(1)


def fresh(*networks: nn.Module) -> None:
    """New random weights, the same on every process."""
    for network in networks:
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        for tensor in network.state_dict().values():
            broadcast(tensor)
