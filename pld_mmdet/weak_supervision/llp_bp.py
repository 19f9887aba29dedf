"""LLP-BP: labels of instances from proportions of bags, by belief propagation."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.memory import SampleBank
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.weak_supervision.learners.belief_propagation import (
    Bags,
    bag_errors,
    marginals,
)


def neighbour_graph(covariates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Each row joined with its k nearest rows by cosine, every pair once.

    Args:
        covariates: N x D.
        k: Neighbours; all other rows where there are fewer.

    Returns:
        Pairs E x 2 with the smaller index first, and exp(-|z_i - z_j|_2) of each, [E]
        (the Matern kernel of order 1/2).
    """
    z = covariates.double()
    if len(z) < 2:
        return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0)
    unit, found = F.normalize(z, dim=1), []
    for first in range(0, len(z), 2048):  # all pairs at once would be N x N
        alike = unit[first : first + 2048] @ unit.T
        alike.diagonal(first).fill_(-torch.inf)
        found.append(alike.topk(min(k, len(z) - 1), dim=1).indices)
    others = torch.cat(found)
    rows = torch.arange(len(z))[:, None].expand_as(others)
    pairs = torch.stack([rows.flatten(), others.flatten()], 1)
    pairs = pairs.sort(1).values.unique(dim=0)
    return pairs, (-(z[pairs[:, 0]] - z[pairs[:, 1]]).norm(dim=1)).exp().float()


def check_converged(probabilities: Tensor, bags: Bags, sums: Tensor) -> None:
    """Refuse marginals that do not keep the sums: messages that diverged.

    Raises:
        UserError: The expected sum of a bag of B is on average more than B / 4 off, B
            in the mean.
    """
    error = bag_errors(probabilities, bags, sums).mean().item()
    size = sum(map(len, bags)) / len(bags)
    if error > size / 4:
        raise UserError(
            f"LLPBP: belief propagation diverged, bags of {size:g} are {error:.1f} "
            "off their sums on average.",
            "Lower model.smooth_weight, or set model.bag_factor=cardinality.",
        )


@MODELS.register_module()
class LLPBP(Method):
    """Rounds of belief propagation over bags and neighbours, and of learning from it.

    Bags are ``ProportionBags`` (drawn), or a user's own: ``GivenBags(whole=True)``, of
    any sizes. Round r (a stage ``round_<r>`` of ``StagedLoop``; its work loader reads
    the bags)::

        z = x in round 1, later the embeddings     # no gradient
        P(y) ~ exp(-lambda_b sum_b (sum_b y - Y_b)^2
                   - lambda_s sum_ij w_ij (y_i - y_j)^2)
               with w_ij = exp(-|z_i - z_j|) between k nearest neighbours
        label_i = [marginal P(y_i = 1) > 0.5]
        loss = BCE(instance head, label)
               + lambda_a BCE(bag head(mean embedding), Y_b / B)

    A stage ``dllp`` is the plain rival: BCE of a bag's mean probability with Y_b / B,
    plus ``entropy`` times the mean entropy of the instances.

    Source: LLP-BP (Havaldar et al. 2023); google-deepmind/llp_bp (5bca483) train.py,
    network.py. Deviations: the factor of a bag is exact, where the code writes it into
    pairs; the bag head, which the paper has and the released loop does not train, is
    trained; the code's limit of 2 on cosine distance never cuts and is left out, as
    is its rule that only members of bags with a sum of 1 or less get neighbours; a
    round goes on with the network of the round before, and rounds have fixed lengths
    (the code stops by the AUC of val).

    Args:
        network: Config of the embedder, N x ... -> N x feat_dim; ReLU follows.
        num_samples: Instances N of the training set.
        feat_dim: Width of an embedding.
        hidden: Width of the instance head's hidden layer [64].
        bag_weight: lambda_b [10].
        smooth_weight: lambda_s [10].
        k: Neighbours [5].
        aggregate_weight: lambda_a [0.1].
        entropy: Of the stage ``dllp`` only [0].
        bag_factor: ``cardinality`` or ``pairwise`` (as released).
    """

    work = {"round": "the bags"}

    def __init__(
        self,
        network: dict,
        num_samples: int,
        feat_dim: int,
        hidden: int = 64,
        bag_weight: float = 10.0,
        smooth_weight: float = 10.0,
        k: int = 5,
        aggregate_weight: float = 0.1,
        entropy: float = 0.0,
        bag_factor: str = "cardinality",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.network = MODELS.build(network)
        self.instance_head = nn.Sequential(
            nn.Linear(feat_dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 1)
        )
        self.bag_head = nn.Linear(feat_dim, 1)
        self.labels = SampleBank(num_samples, 1)
        self.bag_weight, self.smooth_weight, self.k = bag_weight, smooth_weight, k
        self.aggregate_weight, self.entropy = aggregate_weight, entropy
        self.bag_factor = bag_factor

    def embed(self, inputs: Tensor) -> Tensor:
        """N x ... -> N x feat_dim."""
        return self.network(inputs).relu()

    def start_stage(self, name: str, loader, folder: Path) -> None:
        """Labels of a round, from the bags of its work loader."""
        if not name.startswith("round"):
            return
        self.check_work(name, loader)
        # The data set itself: a loader would give each process a part.
        data = [loader.dataset[i] for i in range(len(loader.dataset))]
        unknown = sum(not float(bag["sums"]) >= 0 for bag in data)
        if unknown:
            raise UserError(
                f"LLPBP: of {unknown} of {len(data)} bags the share is unknown.",
                "Add a column proportion to the table, or labels of all instances.",
            )
        bags = [bag["index"][bag["index"] >= 0] for bag in data]
        inputs = torch.cat(
            [bag["inputs"][bag["index"] >= 0] for bag in data]
        )  # what fills up smaller bags is no instance
        self.label(
            inputs.flatten(1) if name == "round_1" else self._embeddings(inputs),
            bags,
            torch.stack([bag["sums"] for bag in data]),
        )

    @torch.no_grad()
    def _embeddings(self, inputs: Tensor) -> Tensor:
        was, device = self.training, next(self.parameters()).device
        self.eval()
        found = [
            self.embed(part.to(device)).float().cpu() for part in inputs.split(512)
        ]
        self.train(was)
        return torch.cat(found)

    @torch.no_grad()
    def label(self, covariates: Tensor, bags: Bags, sums: Tensor) -> Tensor:
        """Steps 1 to 3: marginals [N]; their labels are stored.

        Args:
            covariates: N x D, in the order of the indices 0 .. N-1.
            bags: Indices of each bag's instances.
            sums: Ones in each bag.
        """
        found = marginals(
            bags,
            sums,
            *neighbour_graph(covariates, self.k),
            self.bag_weight,
            self.smooth_weight,
            bag_factor=self.bag_factor,
        )
        check_converged(found, bags, sums)
        index = torch.cat([*bags])
        self.labels.write(index, (found[index, None] > 0.5).float())
        return found

    def loss_round(self, inputs: Tensor, sums: Tensor, index: Tensor, **_) -> dict:
        """Of G bags: inputs G x B x ..., sums [G], index G x B, -1 where none is."""
        held = index >= 0
        embeddings = self.embed(inputs[held])
        logits = self.instance_head(embeddings).float()
        bag = self.bag_head(_means(embeddings, held)).float()
        label = self.labels.read(index[held])
        share = (sums.float() / held.sum(1))[:, None]
        return {
            "loss_instance": F.binary_cross_entropy_with_logits(logits, label),
            "loss_bag": self.aggregate_weight
            * F.binary_cross_entropy_with_logits(bag, share),
        }

    def loss_dllp(self, inputs: Tensor, sums: Tensor, index: Tensor, **_) -> dict:
        """The plain rival, of the same bags."""
        held = index >= 0
        logits = self.instance_head(self.embed(inputs[held])).float()
        p = logits.sigmoid()
        mean = _means(p, held)[:, 0].clamp(1e-6, 1 - 1e-6)
        share = sums.float() / held.sum(1)
        wrong = share * mean.log() + (1 - share) * (1 - mean).log()
        losses = {"loss_proportion": -wrong.mean()}
        if self.entropy:
            entropy = F.binary_cross_entropy_with_logits(logits, p)
            losses["loss_entropy"] = self.entropy * entropy
        return losses

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x 2 of the instance head; no bag is asked."""
        logit = self.instance_head(self.embed(inputs))
        return torch.cat([torch.zeros_like(logit), logit], 1)


def _means(rows: Tensor, held: Tensor) -> Tensor:
    """Mean of each bag's rows: N x D in the order of held G x B, N of it true."""
    places = held.new_zeros(held.shape, dtype=torch.long)
    places[held] = torch.arange(len(rows), device=rows.device)
    return (rows[places] * held[..., None]).sum(1) / held.sum(1)[:, None]
