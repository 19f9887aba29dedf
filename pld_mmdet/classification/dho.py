"""DHO: labels and a vision-language teacher each have a head of their own."""

import math

import torch
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import HOOKS, MODELS

ALPHAS = tuple(i / 20 for i in range(21))
BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)


@MODELS.register_module()
class DHO(Method):
    r"""Dual-head optimization (Kang et al. 2025, arXiv 2505.07675).

    With a backbone f, a = ce_head(f(x)), k = kd_head(f(x)) and the teacher's z_t::

        L = w1 CE(y, a)_labelled
            + w2 tau^2 [mean KL(p_t || p_k)_labelled + mean KL(p_t || p_k)_unlabelled]
        answer: p = alpha softmax(a) + (1 - alpha) softmax(k / beta)

    so that labels and teacher contradict each other in the heads and not in one of
    them; the backbone gets both gradients. Images without a label have target -1
    (``pld_mmdet.LabelledAndNot``); labelled and unlabelled ones pass the student
    together, as in the authors' ImageNet script.

    Deviations from the released code (erjui/DHO, commit 846de75): text vectors that
    initialise the heads have unit length unless the student says ``text_length='raw'``
    (then, as in the code, the first logits of neither head are those of a zero-shot
    classifier); alpha and beta are searched on validation images (theirs: on the test
    images for few-shot ImageNet) by ``MixSearchHook``.

    Args:
        student: Config of a network with ``features`` (N x ... -> N x D) and
            ``feat_dim``. Its own classifier ``fc`` is dropped. Where it has
            ``text_embeddings`` [C, D], both heads start from them.
        teacher: Config of a network, N x ... -> N x C logits; frozen.
        num_classes: C.
        w1: Weight of the labels [0.5, few-shot; ImageNet 1 %: 1].
        w2: Weight of the teacher [0.5, few-shot; ImageNet 1 %: 1].
        tau: Temperature [2].
        alpha: Share of the ce head in an answer [0.5, ImageNet].
        beta: Divides the kd head's logits in an answer [0.5, ImageNet].
        kd_scale: None: kd_head is linear. A number (CLIP students: 100): it acts on
            the feature divided by its length and is multiplied by this.
        heads: ``dual``, or ``single``: both losses on ce_head (the rival).
        predict_on: ``mix`` (the result), ``ce``, ``kd`` or ``teacher``.

    Raises:
        UserError: An unknown word, or a student without features.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        num_classes: int,
        w1: float = 0.5,
        w2: float = 0.5,
        tau: float = 2.0,
        alpha: float = 0.5,
        beta: float = 0.5,
        kd_scale: float | None = None,
        heads: str = "dual",
        predict_on: str = "mix",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "DHO",
            heads=(heads, ("dual", "single")),
            predict_on=(predict_on, ("mix", "ce", "kd", "teacher")),
        )
        self.student = MODELS.build(student)
        if not hasattr(self.student, "features"):
            raise UserError(
                f"DHO: the student {type(self.student).__name__} has no features().",
                "Take SmallConvNet, CIFARResNet or CLIPImageEncoder.",
            )
        if hasattr(self.student, "fc"):
            self.student.fc = nn.Identity()  # no weights that nothing trains
        width = self.student.feat_dim
        self.ce_head = nn.Linear(width, num_classes)
        self.kd_head = (
            self.ce_head if heads == "single" else nn.Linear(width, num_classes)
        )
        text = getattr(self.student, "text_embeddings", None)
        if text is not None:
            _start_from_text((self.ce_head, self.kd_head), text)
        self.teacher = Frozen(MODELS.build(teacher))
        self.w1, self.w2, self.tau = w1, w2, tau
        self.alpha, self.beta = alpha, beta
        self.kd_scale, self.predict_on = kd_scale, predict_on

    def both_heads(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits a and k, [N, C] each, of one backbone pass."""
        f = self.student.features(inputs)
        if self.kd_scale is None:
            return self.ce_head(f), self.kd_head(f)
        return self.ce_head(f), self.kd_scale * self.kd_head(F.normalize(f, dim=1))

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Losses of a batch of both kinds.

        Args:
            inputs: N x ...
            targets: N labels; -1 where there is none.
        """
        a, k = self.both_heads(inputs)
        with torch.no_grad():
            z_t = self.teacher(inputs)
        labelled = targets >= 0
        ce = F.cross_entropy(a.float(), targets, ignore_index=-1, reduction="none")
        kd = self.tau**2 * kl(z_t, k, self.tau, reduction="none")
        return {
            "loss_ce": self.w1 * masked_mean(ce, labelled),
            "loss_kd_labelled": self.w2 * masked_mean(kd, labelled),
            "loss_kd_unlabelled": self.w2 * masked_mean(kd, ~labelled),
        }

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """[N, C] of what ``predict_on`` names; of the mixture its log-probabilities."""
        if self.predict_on == "teacher":
            return self.teacher(inputs)
        a, k = self.both_heads(inputs)
        if self.predict_on == "mix":
            return mix(a, k, self.alpha, self.beta)
        return a if self.predict_on == "ce" else k


def mix(a: Tensor, k: Tensor, alpha: float, beta: float) -> Tensor:
    """log(alpha softmax(a) + (1 - alpha) softmax(k / beta)), [N, C] each.

    Examples:
        >>> a, k = torch.tensor([[2.0, 1, 0]]), torch.tensor([[0.0, 3, 0]])
        >>> mix(a, k, alpha=0.5, beta=0.5).exp()
        tensor([[0.3339, 0.6199, 0.0462]])
    """
    log_a, log_k = a.float().log_softmax(-1), (k.float() / beta).log_softmax(-1)
    if alpha in (0, 1):  # log 0
        return log_a if alpha == 1 else log_k
    return torch.logaddexp(log_a + math.log(alpha), log_k + math.log1p(-alpha))


def search_mix(a: Tensor, k: Tensor, targets: Tensor) -> tuple[float, float]:
    """The alpha and beta of the paper's grid that classify best.

    Of several that classify equally well, the one with the lowest negative
    log-likelihood (the released code: the first one, which favours the kd head).

    Args:
        a: Logits of the ce head [N, C].
        k: Logits of the kd head [N, C].
        targets: Labels [N].
    """
    best = (-1.0, 0.0)
    found = 0.5, 1.0
    for beta in BETAS:
        for alpha in ALPHAS:
            log_p = mix(a, k, alpha, beta)
            accuracy = (log_p.argmax(1) == targets).float().mean().item()
            score = accuracy, -F.nll_loss(log_p, targets).item()
            if score > best:
                best, found = score, (alpha, beta)
    return found


@HOOKS.register_module()
class MixSearchHook(Hook):
    """Before testing, chooses DHO's alpha and beta on the *validation* images."""

    @torch.no_grad()
    def before_test(self, runner) -> None:
        """Pass over ``val_dataloader`` once and set ``model.alpha``, ``model.beta``."""
        model = unwrapped(runner.model)
        model.eval()
        found: list[tuple[Tensor, ...]] = []
        for batch in runner.build_dataloader(runner.cfg.val_dataloader):
            batch = model.data_preprocessor(batch, False)
            found.append((*model.both_heads(batch["inputs"]), batch["targets"]))
        a, k, targets = (
            torch.cat(all_gather(torch.cat(part))) for part in zip(*found, strict=True)
        )
        model.alpha, model.beta = search_mix(a, k, targets)
        runner.logger.info(
            f"MixSearchHook: alpha={model.alpha}, beta={model.beta} are best for "
            f"{len(targets)} validation images."
        )


@torch.no_grad()
def _start_from_text(heads: tuple[nn.Linear, ...], text: Tensor) -> None:
    for head in heads:
        if head.weight.shape != text.shape:
            raise UserError(
                f"DHO: {len(text)} names, but num_classes={len(head.weight)}.",
                "Give the student as many names as there are classes.",
            )
        head.weight.copy_(text)
        head.bias.zero_()
