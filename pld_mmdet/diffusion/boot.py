"""BOOT: a one-step student from noise alone; each time learns from the one before."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.diffusion.networks.denoisers import check_classes
from pld_mmdet.diffusion.networks.taught import TaughtDenoiser
from pld_mmdet.diffusion.processes.levels import ddim_step
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS, MODELS


@MODELS.register_module()
class BOOT(TaughtDenoiser):
    r"""Data-free distillation with bootstrapping (Gu et al. 2023, arXiv 2306.05544).

    The student says what the teacher's deterministic path from the noise eps looks like
    at time t, without its noise: y_t = (x_t - s_t eps) / a_t. One call gives y at any
    time, and y at the first time is the sample::

        y      = g(eps, t);  x = a_t y + s_t eps              no gradient
        target = y + (1 - r) (f(x, t) - y),  r = (s_s / a_s) (a_t / s_t)
        L      = weight mean |(g(eps, s) - target) / (1 - r)|^2
                 + beta mean |g(eps, t_max) - f(eps, t_max)|^2,       s = t - delta

    The target is a DDIM step of the teacher f. Samples ``inputs`` of a batch only give
    the shape of the noise.

    No code of the authors exists. The error is divided by the length 1 - r of the step,
    not by delta: with delta it explodes at both ends. Times are uniform; the paper's
    second choice, a window that grows, is ``order='progressive'``. Guidance has one
    scale; the paper's text models draw it and embed it.

    The student is fed eps at every time, so its network's answer is read as at the last
    time, where that is the path: an x0 or v network as usual, and one that predicts the
    noise as x0 itself (its weights are where it begins; y = (eps - s raw) / a would be
    eps at the first time and divide by nearly nothing at the last). The teacher's x0
    comes from eps by a division by at least ``least_signal``.

    Args:
        process: Config of a ``CosineProcess`` or ``ScheduleProcess``.
        network: Config of teacher and student.
        teacher: Config of a network with its own weights [the stage ``teacher``'s].
        delta: Between two times [0.02 of the range; the paper does not say].
        beta: Of the anchor at the last time [1].
        weight: Of the bootstrapping error [1].
        first: The first time, at which samples are [0.01].
        order: ``uniform`` or ``progressive`` times.
        start: ``teacher`` [the paper's], or ``random`` weights.
        pairs: The rival: regression on so many stored ends of the teacher's path
            instead; 0: BOOT.
        pair_steps: Of that path [20].
        num_classes: Conditions are class numbers below this; 0 for none.
        guidance: Of the teacher [1: none]; the class ``num_classes`` stands for none.
        predict_on: ``student``, or ``teacher`` in ``teacher_steps`` DDIM steps.
        teacher_steps: Of it [50].
        least_signal: a_t counts as at least this where the teacher predicts the noise
            [0.1].

    Raises:
        UserError: An unknown word, times or a signal that leave nothing, or guidance
            without conditions.
    """

    def __init__(
        self,
        process: dict,
        network: dict,
        teacher: dict | None = None,
        delta: float = 0.02,
        beta: float = 1.0,
        weight: float = 1.0,
        first: float = 0.01,
        order: str = "uniform",
        start: str = "teacher",
        pairs: int = 0,
        pair_steps: int = 20,
        num_classes: int = 0,
        guidance: float = 1.0,
        predict_on: str = "student",
        teacher_steps: int = 50,
        least_signal: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            process, network, teacher, start == "random", init_cfg=init_cfg
        )
        one_of(
            "BOOT",
            order=(order, ("uniform", "progressive")),
            start=(start, ("teacher", "random")),
            predict_on=(predict_on, ("student", "teacher")),
        )
        if not 0 < delta < self.process.last - first or first <= 0:
            raise UserError(
                f"BOOT: first={first}, delta={delta} and the process's last="
                f"{self.process.last} leave no two times.",
                "0 < first, and delta > 0 is below last - first.",
            )
        if guidance != 1.0 and not num_classes:
            raise UserError(
                "BOOT: guidance needs conditions, and num_classes is 0.",
                "Set num_classes, or guidance=1.0.",
            )
        if not 0 < least_signal < 1:
            raise UserError(
                f"BOOT: least_signal={least_signal} bounds no signal.",
                "It lies between 0 and 1; 0.1 is the default.",
            )
        self.least_signal = least_signal
        self.delta, self.beta, self.weight, self.first = delta, beta, weight, first
        self.order, self.pairs, self.pair_steps = order, pairs, pair_steps
        self.num_classes, self.guidance = num_classes, guidance
        self.predict_on, self.teacher_steps = predict_on, teacher_steps
        self._ends: tuple[Tensor, Tensor] | None = None

    def check_data(self, dataset: object) -> None:
        """Refuse data of other classes than the teacher's."""
        check_classes(self, dataset)

    def signal(self, eps: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """y at times [N] of the paths that begin at eps, N x ... (the student)."""
        raw = self.student(eps, self.process.clock(t), condition)
        if self.process.predicts == "eps":
            return raw.float()
        end = torch.full_like(t, self.process.last)
        return self.process.both(raw, eps, end)[0]

    def clean(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The teacher's x0 of x at times [N], guided."""
        least = self.least_signal
        guess = self.process.denoise(self.teacher, x, t, condition, least)[0]
        if self.guidance == 1.0:
            return guess
        nothing = torch.full_like(condition, self.num_classes)
        plain = self.process.denoise(self.teacher, x, t, nothing, least)[0]
        return plain + self.guidance * (guess - plain)

    def target(
        self, eps: Tensor, t: Tensor, s: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where the path is at times s, from the student at t; and 1 - r of [N]."""
        with torch.no_grad():
            y = self.signal(eps, t, condition)
            x = ddim_step(y, eps, self.process.alpha(t), self.process.sigma(t))
            f = self.clean(x, t, condition)
            r = step_ratio(self.process, t, s)
            return signal_step(y, f, r), 1 - r

    def loss_distill(
        self, inputs: Tensor, targets: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Bootstrapping and its anchor; of ``inputs`` only the shape is read."""
        self.need_teacher()
        condition = targets if self.num_classes else None
        if self.pairs:
            return self._regression(inputs)
        eps, process = torch.randn_like(inputs), self.process
        t = process.times(len(eps), eps, self.first + self.delta)
        if self.order == "progressive":  # from the last time down
            t = process.last - (process.last - t) * (self.progress.share + 0.02)
            t = t.clamp(self.first + self.delta, process.last)
        s = t - self.delta
        target, length = self.target(eps, t, s, condition)
        error = (self.signal(eps, s, condition) - target).flatten(1) / length[:, None]
        losses = {"loss_bootstrap": self.weight * error.square().mean()}
        if self.beta:
            end = torch.full_like(t, process.last)
            with torch.no_grad():
                anchor = self.clean(eps, end, condition)
            off = (self.signal(eps, end, condition) - anchor).square().mean()
            losses["loss_boundary"] = self.beta * off
        return losses

    def predict(
        self, inputs: Tensor, index: Tensor, targets: Tensor | None = None, **_
    ) -> list[dict]:
        """As many samples as there are inputs, beside the inputs.

        The noise depends on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator().manual_seed(int(index[0]))
        eps = torch.randn(inputs.shape, generator=dice).to(inputs)
        condition = targets if self.num_classes else None
        if self.predict_on == "student" and self.progress.stage != "teacher":
            t = eps.new_full((len(eps),), self.first)
            samples = self.signal(eps, t, condition)
        else:  # in the stage `teacher` it is still being made
            making = self.progress.stage == "teacher"
            network = self.student if making else self.teacher
            samples = self.process.sample(network, eps, self.teacher_steps, condition)
        return [{"samples": samples, "references": inputs}]

    def in_steps(self, count: int) -> None:
        """Sample in so many calls: of the teacher any, of the student one."""
        if self.predict_on == "teacher" or self.progress.stage == "teacher":
            self.teacher_steps = count
        elif count != 1:
            raise UserError(
                f"BOOT: its student cannot sample in {count} steps.",
                "It takes 1; model.predict_on='teacher' takes any number.",
            )

    def _regression(self, inputs: Tensor) -> dict[str, Tensor]:
        """Mean squared distance to stored ends of the teacher's paths."""
        if self._ends is None:  # the same again when a run is resumed
            dice = torch.Generator().manual_seed(0)
            shape = (self.pairs, *inputs.shape[1:])
            eps = torch.randn(shape, generator=dice).to(inputs)
            ends = self.process.sample(self.teacher, eps, self.pair_steps)
            self._ends = eps, ends
        which = torch.randint(self.pairs, (len(inputs),), device=inputs.device)
        eps, ends = (part[which] for part in self._ends)
        t = eps.new_full((len(eps),), self.first)
        return {"loss_regression": (self.signal(eps, t) - ends).square().mean()}


def step_ratio(process, t: Tensor, s: Tensor) -> Tensor:
    """r = (sigma_s / alpha_s) (alpha_t / sigma_t) of times t > s: 1 for no step."""
    above = process.alpha(t) / process.sigma(t)
    return process.sigma(s) / process.alpha(s) * above


def signal_step(y: Tensor, f: Tensor, r: Tensor | float) -> Tensor:
    """A DDIM step of the signal: ``y + (1 - r) (f - y)``.

    Args:
        y: Signal at the time before, N x ...
        f: The teacher's x0 there.
        r: :func:`step_ratio`; a number, or one a sample [N].
    """
    return ddim_step(y, f, r, 1 - r)


@DATASETS.register_module()
class NoiseStarts(Dataset):
    """``size`` samples of zeros, for methods that need no data: ``inputs``, ``index``.

    What is made of them lies in [-1, 1], as diffusers' models draw.

    Args:
        shape: Of a sample.
        size: How many.
        num_classes: With ``targets``: class numbers in turn; 0 for none.
    """

    mean = std = 0.5

    def __init__(
        self, shape: Sequence[int], size: int = 65536, num_classes: int = 0
    ) -> None:
        if size < 1 or min(shape, default=0) < 1:
            raise UserError(
                f"NoiseStarts: shape={tuple(shape)}, size={size}.", "All are positive."
            )
        self.start, self.size, self.classes = torch.zeros(*shape), size, num_classes
        names = tuple(str(number) for number in range(num_classes))
        self.metainfo = {"classes": names}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict:
        item = {"inputs": self.start.clone(), "index": int(index)}
        return item | ({"targets": index % self.classes} if self.classes else {})
