"""SP2OT: imbalanced clustering by partial optimal transport (Zhang et al. 2024)."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.dist import all_gather
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.transport import semantic_partial_ot
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


def sigmoid_ramp(start: float, end: float, progress: float) -> float:
    """``start + (end - start) exp(-5 (1 - progress)^2)``, progress in [0, 1].

    Examples:
        >>> [round(sigmoid_ramp(0.1, 1.0, t), 6) for t in (0.0, 0.5, 1.0)]
        [0.106064, 0.357854, 1.0]
    """
    return start + (end - start) * math.exp(-5.0 * (1.0 - progress) ** 2)


class CosineHead(nn.Module):
    """Logits = scale * cosine with each of K prototypes.

    Args:
        feat_dim: Length D of a feature.
        num_clusters: K.
        scale: Inverse temperature [10].
    """

    def __init__(self, feat_dim: int, num_clusters: int, scale: float = 10.0) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.empty(num_clusters, feat_dim))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """N x D -> N x K."""
        directions = F.normalize(self.prototypes, dim=1)
        return self.scale * F.normalize(features, dim=1) @ directions.T


@MODELS.register_module()
class SP2OT(Method):
    """Clusters by pseudo-labels that optimal transport makes for more and more mass.

    In step t of T of the stage, for two views of B images with logits l1, l2::

        rho = ramp(rho_start, rho_end, t / T);   lam = (1 - rho) lambda0
        P_v = softmax([bank, l_v]);              C_v = -log P_v      # n rows
        Q_v = n * SP2OT(C_v, S, rho, lam)        # rows of the batch; mass <= 1
        loss = CE(l1, Q_2) + CE(l2, Q_1)         # soft, mean over the batch

    A row's mass is its weight: confident images are labelled first. S holds the
    similarities of the images' initial features, and is made once by
    ``start_stage``; run it as a stage of
    :class:`pld_mmdet.engine.loops.StagedLoop` with an unshuffled ``work_dataloader``.

    Special cases, the rows of the table: ``lambda0=0`` is P2OT, ``rho_start=1`` beside
    it plain optimal transport with relaxed columns, ``gamma=inf`` beside both the
    uniform Sinkhorn labels of SwAV and SeLa.

    Source: SP2OT (Zhang, Ren and He 2024); repository rhfeiyang/SPPOT (788a7a46), read
    and not copied. Deviations: the last iteration is reported, not
    the epoch with the lowest loss / rho; bank and potentials are in the
    checkpoint, so that a resumed run has the same labels; the optional
    regulariser of the features is left out (off in the code).

    Args:
        num_clusters: K.
        feat_dim: Length of a feature.
        num_samples: Images of the training set, N.
        backbone: Config of a network, view -> N x D [None: the view is flattened].
        scale: Of the cosine head [10].
        rho_start: Mass at the start [0.1].
        rho_end: Mass at the end [1].
        lambda0: Weight of the similarity at rho = 0 [1000].
        epsilon: Entropy of the transport [0.1].
        gamma: Divergence of the cluster sizes [1].
        top_k: Similarities kept for each image [20].
        kernel: Width of the Gauss kernel, in units of the root of D [2].
        bank: Rows of earlier batches beside the current one in each solve, of view 2
            [0; the paper's bank of 10 batches counts the current one: 9 batches].
        prefill: Fill the bank before the first iteration, with images that are evenly
            spread over the set [False; True in the code, which takes random ones and a
            training view].
        rounds: Most rounds of majorisation [100].
        max_iterations: Most scaling steps of a solve [1000].
    """

    retired_state = ("iteration",)

    def __init__(
        self,
        num_clusters: int,
        feat_dim: int,
        num_samples: int,
        backbone: dict | None = None,
        scale: float = 10.0,
        rho_start: float = 0.1,
        rho_end: float = 1.0,
        lambda0: float = 1000.0,
        epsilon: float = 0.1,
        gamma: float = 1.0,
        top_k: int = 20,
        kernel: float = 2.0,
        bank: int = 0,
        prefill: bool = False,
        rounds: int = 100,
        max_iterations: int = 1000,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = nn.Flatten() if backbone is None else MODELS.build(backbone)
        self.head = CosineHead(feat_dim, num_clusters, scale)
        self.lambda0, self.kernel = lambda0, kernel
        self.rho_start, self.rho_end, self.prefill = rho_start, rho_end, prefill
        self.solver = dict(
            epsilon=epsilon, gamma=gamma, rounds=rounds, max_iterations=max_iterations
        )
        neighbours = (num_samples, top_k)
        self.register_buffer("neighbours", torch.zeros(neighbours, dtype=torch.long))
        self.register_buffer("similarity", torch.zeros(neighbours))
        self.register_buffer("bank_logits", torch.zeros(bank, num_clusters))
        self.register_buffer("bank_index", torch.zeros(bank, dtype=torch.long))
        self.register_buffer("banked", torch.zeros((), dtype=torch.long))
        # The columns' scalings of both views: the next solve starts from them.
        start = torch.zeros(2, num_clusters + 1, dtype=torch.double)
        self.register_buffer("potentials", start)

    def wants_work(self, stage: str) -> str | None:
        """The images, where their similarities or the bank are made beforehand."""
        return "all images, each once" if self.lambda0 or self.prefill else None

    @torch.no_grad()
    def start_stage(self, name: str, loader: Iterable | None, folder: Path) -> None:
        """Similarities of the initial features: the top_k of each image.

        Args:
            name: Of the stage.
            loader: All images, with ``view1`` and ``index``.
            folder: Not used; the result lives in buffers.

        Raises:
            UserError: Other images than ``num_samples`` says.
        """
        if not (self.lambda0 or self.prefill):
            return
        self.check_work(name, loader)
        mode = self.training
        self.eval()
        device = self.similarity.device
        features, index = [], []
        for batch in loader:
            features.append(self.backbone(batch["view1"].to(device)).float())
            index.append(batch["index"].to(device))
        self.train(mode)
        # Each process reads its share; the sampler may repeat some images.
        index = torch.cat(all_gather(torch.cat(index)))
        found = torch.cat(all_gather(torch.cat(features)))
        count = len(self.similarity)
        if not torch.equal(index.unique(), torch.arange(count, device=device)):
            raise UserError(
                f"SP2OT was given {index.unique().numel()} images for num_samples="
                f"{count}.",
                "Set model.num_samples to the size of the training set, and a "
                "work_dataloader that goes through all of it.",
            )
        features = torch.empty_like(found[:count])
        features[index] = found
        if self.prefill and not self.banked:
            size = len(self.bank_index)
            rows = torch.linspace(0, count - 1, size, device=device).round().long()
            self.bank_index.copy_(rows)
            self.bank_logits.copy_(self.head(features[rows]))
            self.banked.fill_(size)
        if not self.lambda0:
            return
        for rows in torch.arange(len(features), device=device).split(1024):
            distance = torch.cdist(features[rows], features).square()
            width = 2 * self.kernel**2 * features.shape[1]
            similarity = (-distance / width).exp()
            similarity[torch.arange(len(rows), device=device), rows] = 0.0
            top = similarity.topk(self.similarity.shape[1], dim=1)
            self.similarity[rows], self.neighbours[rows] = top.values, top.indices

    def similarities(self, index: Tensor) -> Tensor:
        """S of some images, [n, n]."""
        rows = self.similarity.new_zeros(len(index), len(self.similarity))
        rows.scatter_(1, self.neighbours[index], self.similarity[index])
        return rows[:, index]

    @torch.no_grad()
    def pseudo_labels(
        self, logits: tuple[Tensor, Tensor], index: Tensor
    ) -> list[Tensor]:
        """Q of both views, rows of mass <= 1, [B, K] each; moves the bank."""
        rho = sigmoid_ramp(self.rho_start, self.rho_end, self.progress.share)
        lam = (1.0 - rho) * self.lambda0
        old = self.bank_logits[: self.banked]
        all_index = torch.cat([self.bank_index[: self.banked], index])
        similarity = self.similarities(all_index) if lam else None
        labels = []
        for view, new in enumerate(logits):
            cost = -torch.cat([old, new.detach().float()]).double().log_softmax(1)
            plan, self.potentials[view] = semantic_partial_ot(
                cost,
                similarity,
                rho,
                lam,
                potentials=self.potentials[view],
                **self.solver,
            )
            labels.append((plan * len(cost))[len(old) :].to(new))
        # The newest rows come last, first in, first out. View 2 stays: in the released
        # code it takes the places of view 1.
        size = len(self.bank_index)
        if size:
            rows = torch.cat([old, logits[1].detach().float()])[-size:]
            self.bank_logits[: len(rows)] = rows
            self.bank_index[: len(rows)] = all_index[-size:]
            self.banked.fill_(len(rows))
        return labels

    def loss(
        self, view1: Tensor, view2: Tensor, index: Tensor, **_
    ) -> dict[str, Tensor]:
        """Each view learns the other one's pseudo-labels.

        Args:
            view1: N x ..., one view of the images.
            view2: Another one.
            index: Their numbers in the training set, [N].
        """
        first, second = self.head(self.backbone(view1)), self.head(self.backbone(view2))
        q1, q2 = self.pseudo_labels((first, second), index)
        loss = soft_cross_entropy(first, q2) + soft_cross_entropy(second, q1)
        return {"loss_ot": loss, "mass": (q1.sum(1).mean() + q2.sum(1).mean()) / 2}

    def outputs(self, view1: Tensor, **_) -> Tensor:
        """Cluster logits N x K of a view."""
        return self.head(self.backbone(view1))
