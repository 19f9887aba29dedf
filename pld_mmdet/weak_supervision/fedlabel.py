"""FedLabel: federated learning with few labels, local or global pseudo-labels."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS


def expertise(p: Tensor, kind: str = "variance") -> Tensor:
    """How sure distributions N x K are of themselves, [N]; 0 for uniform ones.

    Args:
        p: Probabilities.
        kind: ``variance`` of the K numbers (population), ``entropy`` (what is
            missing to log K), or ``max`` (the largest one).
    """
    if kind == "variance":
        return p.var(1, correction=0)
    if kind == "entropy":
        return torch.special.xlogy(p, p).sum(1) + torch.tensor(float(p.shape[1])).log()
    return p.amax(1)


@MODELS.register_module()
class FedLabel(Method):
    """A client whose pseudo-labels come from the surer of two models, sample by sample.

    The client's model w_k starts a round as the global model w. First it takes
    labelled steps (cross-entropy). Then, on unlabelled images x with a weak and a
    strong view::

        p_l = softmax f(weak; w_k),  p_g = softmax f(weak; w)       # no gradient
        chosen = local if h(p_l) >= h(p_g) else global;  other = the other one
        y = argmax p_chosen, kept if max p_chosen >= beta
        lam = lambda0 h(p_other) / h(p_chosen) if argmax p_other = y else 0
        loss = mean over kept: CE(f(strong; w_k), y) + lam KL(p_other || f(strong; w_k))

    Both terms are means over all kept images, so an image on which the models disagree
    counts in the second one's divisor (the second re-implementation divides by the
    images on which they agree).

    A step that keeps nothing changes nothing. The server averages the clients' models:
    run it with :class:`pld_mmdet.engine.loops.FederatedLoop`. The frozen copy of w is
    made at the start of each client and is in no checkpoint.

    Source: FedLabel (Cho et al., ICCV 2023), equations 4 and 7, read through two
    re-implementations; the authors' code was not found. So h, beta and the order
    of the steps are theirs, and the first one's are the defaults. The pseudo-labels of
    w_k are made in evaluation mode.

    Args:
        network: Config of a network, N x ... -> N x K logits.
        beta: Least confidence of a pseudo-label [0.95].
        lambda0: Largest weight of the divergence [1].
        h: ``variance`` (first re-implementation), ``max`` (second) or ``entropy``.
        experts: ``both``; ``local`` or ``global`` for rivals that ask one model only
            and have no divergence.
        warm_rounds: Rounds at the start that learn from labels only [0].
    """

    communicated = "student"

    def __init__(
        self,
        network: dict,
        beta: float = 0.95,
        lambda0: float = 1.0,
        h: str = "variance",
        experts: str = "both",
        warm_rounds: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "FedLabel",
            h=(h, ("variance", "entropy", "max")),
            experts=(experts, ("both", "local", "global")),
        )
        self.student = MODELS.build(network)
        self.beta, self.lambda0, self.h = beta, lambda0, h
        self.experts, self.warm_rounds = experts, warm_rounds
        # In a tuple, so that neither state dict nor optimizer sees it.
        self._global = (Frozen(copy.deepcopy(self.student)),)

    def start_client(self, round_: int, client: int) -> None:
        """Keep the global model, which ``student`` is now, beside the client's."""
        device = next(self.student.parameters()).device
        self._global[0].to(device).network.load_state_dict(self.student.state_dict())

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One local step; none if no pseudo-label passes."""
        data = self.data_preprocessor(data, True)
        return self.step(optim_wrapper, lambda: self.loss(**data))

    def loss(self, branch: str, **batch) -> dict[str, Tensor]:
        """The losses of one branch.

        Args:
            branch: ``labelled`` or ``unlabelled``.
            batch: ``inputs`` N x ... and ``targets`` [N]; for unlabelled images also
                ``strong``, and ``targets`` are only compared with, for the log.
        """
        if branch == "labelled":
            logits = self.student(batch["inputs"])
            return {"loss_labelled": F.cross_entropy(logits, batch["targets"])}
        if self.warm_rounds and self.progress.known().step < self.warm_rounds:
            return {}
        return self.loss_unlabelled(
            batch["inputs"], batch["strong"], batch.get("targets")
        )

    def loss_unlabelled(
        self, weak: Tensor, strong: Tensor, targets: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Steps 2 and 3 on a batch; ``kept`` is the share of pseudo-labels.

        Args:
            weak: N x ...
            strong: N x ..., another view of the same images.
            targets: True classes for the log, [N]; None: not known.
        """
        local, other, label, lam = self.pseudo_labels(weak)
        keep = local.softmax(1).amax(1) >= self.beta
        values = {"kept": keep.float().mean()}
        if not keep.any():
            return values
        label, lam = label[keep], lam[keep]
        if targets is not None:
            values["pseudo_accuracy"] = (label == targets[keep]).float().mean()
        logits = self.student(strong[keep])
        values["loss_pseudo"] = F.cross_entropy(logits, label)
        if self.experts == "both":
            divergence = kl(other[keep], logits, reduction="none")
            values["loss_kl"] = (lam * divergence).mean()
        return values

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Who is asked, what is said.

        Returns:
            Logits of the chosen model and of the other one, [N, K] each; classes [N];
            weights lam of the divergence [N].
        """
        mode = self.student.training
        local, wide = self.student.eval()(weak), self._global[0](weak)
        self.student.train(mode)
        h_local, h_global = (
            expertise(logits.softmax(1), self.h) for logits in (local, wide)
        )
        ours = h_local >= h_global
        if self.experts != "both":
            ours = torch.full_like(ours, self.experts == "local")
        chosen = torch.where(ours[:, None], local, wide)
        other = torch.where(ours[:, None], wide, local)
        label = chosen.argmax(1)
        high, low = (
            torch.where(ours, h_local, h_global),
            torch.where(ours, h_global, h_local),
        )
        agree = other.argmax(1) == label
        # Two uniform distributions (h = 0) are equally sure.
        ratio = torch.where(high > 0, low / high.clamp(min=1e-12), 1.0)
        return chosen, other, label, self.lambda0 * ratio * agree

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x K of the global model."""
        return self.student(inputs)
