"""SPARSE: few labels, a translator between classes, and two voters (2025).

Manni et al., SPARSE Data, Rich Results: Few-Shot Semi-Supervised Learning via
Class-Conditioned Image Translation, https://arxiv.org/abs/2508.06429. A U-Net G with a
class head E, a critic D with class logits and a classifier C::

    A, each step, on labels, for each m of E, D, C:
        L = L_proto + alpha (CE + lambda_kl KL(mean of the others || p_m)) + beta H(p_m)
            + gamma CE of mixup
        L_proto: CE over -||q - c_k||^2, q = softmax(z / 0.1), c_k class means of q
    B, C, in turns, on images without labels:
        p   = sum c_m p_m / sum c_m,  m of D, C;  p_m = softmax(z_m / T)
              c_m = 1 - H(p_m) / log K
        p   = a p + (1 - a) p_ema;   p_ema <- b p_ema + (1 - b) p      # of each image
        keep the images whose max p is above the rho-quantile of the batch; y^ = argmax
        D:  -D(x) + D(G(x, z)) + 10 gradient penalty + CE(D(x), y^),   z a random class
        G:  -D(G(x, z)) + CE(D, z) + CE(E, z) + 10 |G(G(x, z), y^) - x|
        C:  CE(C(G(x, z)), z)

Read for facts only: the paper and GuidoManni/SPARSE, commit c1e144d. Where they differ
this follows the paper: the vote's memory belongs to an image, only confident images are
used (in B and C alike), the mutual term has a gradient, classes compete in a softmax.
Its L_proto has two minus signs; read so that it pulls. Their turns are epochs: a pass
over the images without labels after every mu-th over the few with (``InTurnSampler``;
paper.py). Deviation: the prototypes are without gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pld_mmdet.distill.divergences import kl
from pld_mmdet.distill.losses import entropy, soft_cross_entropy
from pld_mmdet.distill.memory import SampleBank
from pld_mmdet.distill.teachers import fixed
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import one_of
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.mixing import mixup

VOTERS = ("discriminator", "classifier")


def confidence(logits: Tensor, temperature: float) -> Tensor:
    """1 - H(p) / log K of p = softmax(logits / temperature): [N, K] -> [N]."""
    return 1 - entropy(logits / temperature, normalise=True)


def vote(logits: tuple[Tensor, ...], temperature: float) -> Tensor:
    """Probabilities weighed by their confidence.

    Args:
        logits: [N, K] of each voter.
        temperature: Divides all of them.

    Returns:
        [N, K]; the plain mean where nobody has any confidence.
    """
    # The smallest number keeps 0 / 0 away, and leaves a mean.
    weights = [confidence(z, temperature).clamp(min=1e-12)[:, None] for z in logits]
    parts = [
        w * (z.float() / temperature).softmax(1)
        for w, z in zip(weights, logits, strict=True)
    ]
    return sum(parts) / sum(weights)


def remembered(
    votes: Tensor, memory: Tensor, share: float, keep: float
) -> tuple[Tensor, Tensor]:
    """The vote with what is remembered of each image, and the new memory.

    Args:
        votes: [N, K].
        memory: [N, K]; rows of zeros for images that were never seen.
        share: a, of the vote.
        keep: b, of the memory.
    """
    seen = memory.sum(1, keepdim=True) > 0
    p = torch.where(seen, share * votes + (1 - share) * memory, votes)
    return p, torch.where(seen, keep * memory + (1 - keep) * p, p)


def confident(p: Tensor, quantile: float) -> Tensor:
    """Bool [N]: the largest probability is above the batch's quantile.

    Where none is (all alike), the first of the largest is taken.
    """
    best = p.amax(1)
    chosen = best > best.quantile(quantile)
    chosen[best.argmax()] = True
    return chosen


def prototype_loss(logits: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """CE over minus the squared distances to the classes' mean probabilities.

    Args:
        logits: [N, K].
        targets: [N]; a class without a sample has the prototype 0.
        temperature: Of the probabilities [0.1, code].
    """
    q = (logits.float() / temperature).softmax(1)
    member = F.one_hot(targets, logits.shape[1]).to(q)
    means = (member.T @ q.detach()) / member.sum(0).clamp(min=1)[:, None]
    distances = (q[:, None] - means).square().sum(2)
    return F.cross_entropy(-distances, targets)


def gradient_penalty(critic, real: Tensor, fake: Tensor) -> Tensor:
    """(|gradient of D between real and fake| - 1)^2, one place for each image."""
    place = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = (place * real + (1 - place) * fake).detach().requires_grad_(True)
    with torch.enable_grad():
        score = critic(between)[0]
        (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    return (slope.float().flatten(1).norm(dim=1) - 1).square().mean()


@MODELS.register_module()
class SPARSE(Method):
    """Three networks, three optimizers (``PartsOptimConstructor``).

    Images have a label or none (-1, ``LabelledAndNot``). A batch of one kind alone is
    that kind's phase: ``InTurnSampler`` counts turns in passes, as the authors do. In a
    mixed batch (``SemiSampler``) turns are counted in steps. ``use='votes'`` leaves the
    translator out: D and C learn the confident images and their votes; ``use='labels'``
    is C alone on the labels.

    Args:
        generator: Config of an ``AttentionUNet``.
        discriminator: Config of a ``ClassCritic``.
        classifier: Config of a network, N x C x H x W -> N x K logits.
        num_classes: K.
        num_samples: Images of the training set, with and without label.
        interval: Each how many steps the images without a label of a mixed batch are
            used [10].
        temperature: T [2; code 0.5].
        mutual, entropy, mix: alpha, beta, gamma [0.1, 0.01, 0.5].
        kl_weight: lambda_kl [0.5].
        mix_alpha: Of mixup's Beta distribution [0.2].
        share, keep: a and b [0.6 and 0.99].
        quantile: rho [0.75].
        penalty, reconstruct, classes: Weights of the gradient penalty, of the way back
            and of the class terms of D and G [10, 10 and 1].
        use: ``all``, ``votes`` or ``labels``.
        predict_on: ``classifier``, or ``ensemble``: the mean of D's and C's
            probabilities.
    """

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        classifier: dict,
        num_classes: int,
        num_samples: int,
        interval: int = 10,
        temperature: float = 2.0,
        mutual: float = 0.1,
        entropy: float = 0.01,
        mix: float = 0.5,
        kl_weight: float = 0.5,
        mix_alpha: float = 0.2,
        share: float = 0.6,
        keep: float = 0.99,
        quantile: float = 0.75,
        penalty: float = 10.0,
        reconstruct: float = 10.0,
        classes: float = 1.0,
        use: str = "all",
        predict_on: str = "classifier",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of(
            "SPARSE",
            use=(use, ("all", "votes", "labels")),
            predict_on=(predict_on, ("classifier", "ensemble")),
        )
        self.generator = MODELS.build(generator)
        self.discriminator = MODELS.build(discriminator)
        self.classifier = MODELS.build(classifier)
        self.memory = SampleBank(num_samples, num_classes)
        self.num_classes, self.interval = num_classes, interval
        self.temperature, self.quantile = temperature, quantile
        self.weights = dict(mutual=mutual, entropy=entropy, mix=mix, kl=kl_weight)
        self.mix_alpha, self.share, self.keep = mix_alpha, share, keep
        self.penalty, self.reconstruct, self.classes = penalty, reconstruct, classes
        self.use, self.predict_on = use, predict_on

    def looks(self, x: Tensor, part: str) -> Tensor:
        """Class logits N x K of one of the three networks."""
        found = getattr(self, part)(x)
        return found[1] if part == "discriminator" else found

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """Phase A on labels; B and C on images without, at their turn."""
        known = batch["targets"] >= 0
        logs = {}
        if known.any():
            x, y = batch["inputs"][known], batch["targets"][known]
            logs |= self._labelled(x, y, optim_wrapper)
        turn = not known.any() or self.progress.known().step % self.interval == 0
        if self.use != "labels" and turn and not known.all():
            x, index = batch["inputs"][~known], batch["index"][~known]
            logs |= self._unlabelled(x, index, optim_wrapper)
        return logs

    def _labelled(self, x: Tensor, y: Tensor, optim_wrapper) -> dict[str, Tensor]:
        if self.use == "labels":
            return self.step(
                optim_wrapper, lambda: self.plain_losses(x, y), "classifier"
            )
        parts = VOTERS if self.use == "votes" else ("generator", *VOTERS)
        logits: dict[str, Tensor] = {}

        def of(part: str) -> dict[str, Tensor]:
            if not logits:  # all three look before one of them moves
                logits.update({name: self.looks(x, name) for name in parts})
            return self.labelled_losses(part, logits, x, y)

        logs = {}
        for part in parts:
            found = self.step(optim_wrapper, lambda part=part: of(part), part)
            logs |= {f"{part}_{k}": v for k, v in found.items() if k != "loss"}
        return logs

    def plain_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """C alone: cross-entropy and mixup."""
        mixed = self._mixed("classifier", x, y)
        loss = F.cross_entropy(self.classifier(x).float(), y)
        return {"loss_ce": loss, "loss_mix": self.weights["mix"] * mixed}

    def labelled_losses(
        self, part: str, logits: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> dict[str, Tensor]:
        """Phase A of one network; the others' logits are without gradient."""
        own = logits[part].float()
        others = [z.detach().float().softmax(1) for p, z in logits.items() if p != part]
        mean = (sum(others) / len(others)).clamp(min=1e-12).log()
        mutual = F.cross_entropy(own, y) + self.weights["kl"] * kl(mean, own)
        return {
            "loss_proto": prototype_loss(own, y),
            "loss_mutual": self.weights["mutual"] * mutual,
            "loss_ent": self.weights["entropy"] * entropy(own).mean(),
            "loss_mix": self.weights["mix"] * self._mixed(part, x, y),
        }

    @torch.no_grad()
    def choose(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Which images are confident, Bool [N], and the votes' classes [N]."""
        votes = vote(tuple(self.looks(x, p) for p in VOTERS), self.temperature)
        p, memory = remembered(votes, self.memory.read(index), self.share, self.keep)
        self.memory.write(index, memory)
        return confident(p, self.quantile), p.argmax(1)

    def _unlabelled(self, x: Tensor, index: Tensor, optim_wrapper) -> dict[str, Tensor]:
        chosen, guess = self.choose(x, index)
        x, guess = x[chosen], guess[chosen]
        if self.use == "votes":
            turns = {p: lambda p=p: self._taught(p, x, guess) for p in VOTERS}
        else:
            z = torch.randint(self.num_classes, (len(x),), device=x.device)
            turns = {
                "discriminator": lambda: self.critic_losses(x, guess, z),
                "generator": lambda: self.generator_losses(x, guess, z),
                "classifier": lambda: self._taught("classifier", self._made(x, z), z),
            }
        logs = {"kept": chosen.float().mean()}
        for part, losses in turns.items():
            found = self.step(optim_wrapper, losses, part)
            logs |= {f"{part}_u_{k}": v for k, v in found.items() if k != "loss"}
        return logs

    def critic_losses(self, x: Tensor, guess: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Phase B of D: images N x C x H x W, their votes, the classes to make."""
        fake = self._made(x, z)
        score, logits = self.discriminator(x)
        penalty = gradient_penalty(self.discriminator, x, fake)
        return {
            "loss_gan": self.discriminator(fake)[0].mean() - score.mean(),
            "loss_gp": self.penalty * penalty,
            "loss_cls": self.classes * F.cross_entropy(logits.float(), guess),
        }

    def generator_losses(
        self, x: Tensor, guess: Tensor, z: Tensor
    ) -> dict[str, Tensor]:
        """Phase B of G; D gets no gradient."""
        fake = self.generator.translate(x, z)
        with fixed(self.discriminator):
            score, logits = self.discriminator(fake)
        back = self.generator.translate(fake, guess)
        of_class = F.cross_entropy(logits.float(), z)
        of_class = of_class + F.cross_entropy(self.generator(fake).float(), z)
        return {
            "loss_gan": -score.mean(),
            "loss_cls": self.classes * of_class,
            "loss_rec": self.reconstruct * F.l1_loss(back, x),
        }

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x K of C, or log-probabilities of the two voters' mean."""
        if self.predict_on == "classifier":
            return self.classifier(inputs)
        p = [self.looks(inputs, part).float().softmax(1) for part in VOTERS]
        return (sum(p) / 2).clamp(min=1e-12).log()

    def _made(self, x: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            return self.generator.translate(x, z)

    def _taught(self, part: str, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss_cls": F.cross_entropy(self.looks(x, part).float(), y)}

    def _mixed(self, part: str, x: Tensor, y: Tensor) -> Tensor:
        target = F.one_hot(y, self.num_classes).float()
        x, target, _ = mixup(x, target, self.mix_alpha)
        return soft_cross_entropy(self.looks(x, part), target)
