"""CoTTA: continual test-time domain adaptation (Wang et al., CVPR 2022)."""

import copy

import torch
from torch import Tensor, nn

from pld_mmdet.distill.ema import ema_update
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.teachers import Averaged, Frozen
from pld_mmdet.registry import MODELS
from pld_mmdet.weak_supervision.data.augment import CoTTAViews
from pld_mmdet.weak_supervision.learners.online_adaptation import (
    TestTimeMethod,
    use_batch_statistics,
)


@torch.no_grad()
def stochastic_restore(student: nn.Module, source: nn.Module, p: float) -> None:
    """Put each weight back to its source value with probability ``p``, in place.

    As in the released code, tensors that a layer calls ``weight`` or ``bias`` are
    restored, and nothing else (no class tokens, no position embeddings).

    Args:
        student: Changed in place.
        source: A network of the same shape.
        p: Probability of an element, in [0, 1].
    """
    for layer, original in zip(student.modules(), source.modules(), strict=True):
        for name in ("weight", "bias"):
            value = layer._parameters.get(name)
            if value is not None:
                back = torch.rand_like(value) < p
                value.copy_(torch.where(back, original._parameters[name], value))


@MODELS.register_module()
class CoTTA(TestTimeMethod):
    """A student that follows the mean of a teacher's views, and forgets towards source.

    For each test batch x, with student s, teacher t and frozen source network a::

        if mean_b max softmax a(x) < p_th:  y = mean_i t(view_i(x)), i = 1..views
        else:                               y = t(x)                # logits
        loss = mean_b -sum_k softmax(y)_k log softmax(s(x))_k       # one step of s
        t <- alpha * t + (1 - alpha) * s                            # after the step
        s <- source where Bernoulli(p) is 1, else s                 # after the EMA
        answer y

    Nothing tells the model when the domain changes, and nothing is reset. All three
    networks normalise by the statistics of the batch at hand.

    Source: equations 1-8 of the paper; repository qinenergy/cotta (c212a204): cifar/
    cotta.py, imagenet/cotta.py. Deviations: the source weights of the restore are
    the anchor's (the code holds them twice); views are computed only when they are
    used; dropout is off in teacher and anchor (the paper's networks have none).

    Args:
        network: Config of the source network, N x C x H x W in [0, 1] -> N x K logits.
        alpha: Teacher's share that stays in an iteration [0.999, paper and configs].
        p: Probability of the restore [0.01, paper; ImageNet code 0.001].
        p_th: Below this mean confidence of the source network views are averaged
            [0.92, CIFAR-10; CIFAR-100 0.72, ImageNet 0.1].
        views: Augmented views N [32].
        augment: Arguments of :class:`CoTTAViews` [its defaults].
        symmetric: Half of each direction of the cross-entropy, as in the ImageNet
            code only [False].
    """

    copies_of_source = ("student.", "teacher.network.", "anchor.network.")

    def __init__(
        self,
        network: dict,
        alpha: float = 0.999,
        p: float = 0.01,
        p_th: float = 0.92,
        views: int = 32,
        augment: dict | None = None,
        symmetric: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.student = use_batch_statistics(MODELS.build(network))
        self.teacher = Averaged(self.student)
        self.anchor = Frozen(copy.deepcopy(self.student))
        self.alpha, self.p, self.p_th, self.views = alpha, p, p_th, views
        self.augment = CoTTAViews(**(augment or {}))
        self.symmetric = symmetric

    @torch.no_grad()
    def label(self, inputs: Tensor) -> Tensor:
        """The teacher's logits y of a batch, N x K (steps 2 and 3)."""
        confidence = self.anchor(inputs).softmax(-1).amax(-1).mean()
        if self.views == 0 or confidence >= self.p_th:
            return self.teacher(inputs)
        # One forward a view: a batch of all views would mix their batch statistics.
        logits = [self.teacher(self.augment(inputs)) for _ in range(self.views)]
        return torch.stack(logits).mean(0)

    def adapt(self, inputs: Tensor, **_) -> tuple[dict[str, Tensor], Tensor]:
        """Cross-entropy with the teacher's label, which is the answer."""
        target = self.label(inputs)
        logits = self.student(inputs)
        loss = soft_cross_entropy(logits, target.softmax(-1), reduction="none")
        if self.symmetric:  # the student's probabilities are the other target
            back = soft_cross_entropy(target, logits.softmax(-1), reduction="none")
            loss = (loss + back) / 2
        return {"loss_consistency": loss.mean()}, target

    def after_step(self) -> None:
        """Teacher by EMA, then the restore: in this order."""
        ema_update(self.teacher, self.student, self.alpha)
        stochastic_restore(self.student, self.anchor.network, self.p)

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """The teacher's answer to a batch, without learning from it."""
        return self.teacher(inputs)
