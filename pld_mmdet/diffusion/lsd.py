"""LSD: a few scalars that make a short discrete sampler imitate a long one."""

import torch
from torch import Tensor, nn

from pld_mmdet.diffusion.processes.discrete import euler_step, odds, rate, reveal
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class LSD(Method):
    r"""Learnable sampler distillation, LSD and LSD+ (Fu et al. 2025).

    The network is frozen. From the same masked start a teacher takes N Euler steps and
    the student M; at the student's times t_k::

        L_k  = mean |Phi_k s(x_k, t_k) - s(x*_k, t_k)|^2                           LSD
        L'_k = mean |kappa_k s(x_k, tau_k) - (T - e) / M s(x*_k, t_k)|^2           LSD+

    over positions that are masked in both. Sampling is not differentiated. While
    training the student starts with up to ``zeta`` L tokens revealed at random
    (relaxation); sampling starts from masks only.

    We follow the paper where the release (feiyangfu/LSD 5b423ee) differs: Phi
    multiplies the score (released: the network's logarithm, which makes it a power).
    Released is one start that teacher and student share, moved by ``zeta`` again in
    each of 16 epochs (``relaxes='both'``: a fresh one in each step), and softmaxed
    outputs under -mean sum q log(q + 1e-3) / (p + 1e-3), whose least value is at a
    sure q, not at the teacher's p; it is not taken over.
    As written, LSD+'s target has the teacher's step (T - e) / N, which would pull every
    kappa towards a step N / M times too short; ours is the length of the student's own
    interval, and kappa is scaled to sum T - e after every step. The paper averages over
    all positions; those masked in one path only compare nothing, and are left out.

    Args:
        network: Config of a score network ``(x [N, L], t) -> [N, L, V]``.
        steps: M [8, the released default].
        teacher_steps: N, a multiple of M [256].
        learn_times: LSD+ [False].
        zeta: Share of tokens that relaxation reveals [0.05]; 0 for none.
        relaxes: Who starts from them: the ``student`` [the paper], or ``both``
            (released).
        phi: What all coefficients start from [1].
        end: e, where both grids end [1e-3].

    Raises:
        UserError: ``teacher_steps`` is no multiple of ``steps``, or an unknown word.
    """

    def __init__(
        self,
        network: dict,
        steps: int = 8,
        teacher_steps: int = 256,
        learn_times: bool = False,
        zeta: float = 0.05,
        phi: float = 1.0,
        end: float = 1e-3,
        relaxes: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("LSD", relaxes=(relaxes, ("student", "both")))
        if steps < 1 or teacher_steps % steps:
            raise UserError(
                f"LSD: teacher_steps={teacher_steps} is no multiple of steps={steps}.",
                "The student's times are a subset of the teacher's.",
            )
        self.network = Frozen(MODELS.build(network))
        self.phi = nn.Parameter(torch.full((steps,), float(phi)))
        interval = (1.0 - end) / steps
        self.kappa = nn.Parameter(
            torch.full((steps,), interval), requires_grad=learn_times
        )
        self.steps, self.teacher_steps, self.zeta = steps, teacher_steps, zeta
        self.learn_times, self.end, self.relaxes = learn_times, end, relaxes

    def times(self) -> Tensor:
        """tau_0 = 1 > ... > tau_M = e, [M + 1]."""
        tau = 1.0 - torch.cumsum(self.kappa.detach(), 0)
        return torch.cat([tau.new_ones(1), tau])

    @torch.no_grad()
    def walk(
        self,
        x: Tensor,
        times: Tensor,
        phi: Tensor,
        dice: torch.Generator | None = None,
        every: int = 1,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Euler steps along a grid.

        Args:
            x: Start, [N, L].
            times: [M + 1], descending.
            phi: Coefficient of each step, [M].
            dice: Of the draws [the global ones].
            every: Only the first of so many steps is kept; 0: none. The scores of a
                step are N x L x V numbers.

        Returns:
            The end [N, L], and of each kept step the sequence before it and its scores.
        """
        seen = []
        for k, phi_k in enumerate(phi.detach()):
            now, step = times[k].item(), (times[k] - times[k + 1]).item()
            score = self.network(x, now)
            if every and k % every == 0:
                seen.append((x, score))
            x = euler_step(x, step * rate(now) * phi_k * score, dice)
        return x, seen

    def loss(self, inputs: Tensor, **_) -> dict[str, Tensor]:
        """Match the teacher's scores from masked starts [N, L]."""
        self._check(inputs)
        every = self.teacher_steps // self.steps
        grid = torch.linspace(1.0, self.end, self.teacher_steps + 1)
        grid = grid.to(self.phi.device)
        ones = self.phi.new_ones(self.teacher_steps)
        shared = self.relaxes == "both"
        start = self.relaxed(inputs) if shared else inputs
        _, teacher = self.walk(start, grid, ones, every=every)
        start = start if shared else self.relaxed(inputs)
        _, student = self.walk(start, self.times(), self.phi)
        total, kept = self.phi.sum() * 0.0, 0
        for k, (x, score) in enumerate(student):
            goal_x, goal = teacher[k]
            masked = x.new_tensor(goal.shape[-1])
            both = (x == masked) & (goal_x == masked)
            kept += int(both.sum())
            if not both.any():
                continue
            total = total + score_match(score[both], goal[both], self.phi[k])
            if self.learn_times:
                share_of_step = self.kappa[k] * self.steps / (1.0 - self.end)
                total = total + score_match(score[both], goal[both], share_of_step)
        share = kept / (inputs.numel() * self.steps)
        return {"loss_score": total, "both_masked": total.new_tensor(share).detach()}

    def _check(self, inputs: Tensor) -> None:
        """Refuse a network that knows nothing, and starts of another vocabulary."""
        if self.progress.step:
            return
        if getattr(self.network.network, "untrained", False):
            raise UserError(
                "LSD: the weights of model.network are random, so there is nothing to "
                "imitate.",
                "Set model.network.pretrained to a folder (pld_mmdet.DDiTScore reads "
                "SEDD's and RADD's), or load_from a checkpoint.",
            )
        known = getattr(self.network.network, "tokens", None)
        if known is not None and inputs.numel() and int(inputs.max()) != known:
            raise UserError(
                f"LSD: the starts are masked by token {int(inputs.max())}, the network "
                f"by {known}.",
                f"Set train_dataloader.dataset.tokens={known}.",
            )

    def step_distill(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step; the grid still ends at e afterwards, and descends."""
        logs = self.step(optim_wrapper, lambda: self.loss(**batch))
        if self.learn_times:
            with torch.no_grad():
                shortest = 1e-3 * (1.0 - self.end) / self.steps
                self.kappa.clamp_(min=shortest)
                self.kappa.mul_((1.0 - self.end) / self.kappa.sum())
        return logs

    def relaxed(self, x: Tensor) -> Tensor:
        """At most ``zeta`` L masked tokens of each row are revealed, at random."""
        n, length = x.shape
        count = int(self.zeta * length)
        if not count:
            return x
        places = torch.rand(n, length, device=x.device).argsort(1)[:, :count]
        tokens = torch.randint(int(x.max()), places.shape, device=x.device)
        return x.scatter(1, places, tokens)

    def predict(self, inputs: Tensor, index: Tensor, **_) -> list[dict]:
        """M steps and one last call that reveals what is left.

        Draws depend on ``index`` only, so an evaluation can be repeated.
        """
        dice = torch.Generator(inputs.device).manual_seed(int(index[0]))
        x, _ = self.walk(inputs, self.times(), self.phi, dice, every=0)
        score = self.network(x, self.end)
        tokens = score.shape[-1]
        late = (x == tokens).float().mean()
        x = reveal(x, score * odds(self.end), dice)
        return [{"samples": x, "tokens": tokens, "final_share": late}]


def score_match(student: Tensor, teacher: Tensor, phi: Tensor | float) -> Tensor:
    """mean over N of sum over V of (phi student - teacher)^2.

    For fixed scores the best phi is <student, teacher> / <student, student>.

    Args:
        student: Scores [N, V].
        teacher: Scores [N, V].
        phi: A number, or one a row [N, 1].

    Returns:
        A scalar; 0 with a gradient path where N is 0.

    Raises:
        UserError: Shapes that do not fit.
    """
    if student.shape != teacher.shape or student.dim() != 2:
        raise UserError(
            f"score_match: student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)} do not belong together.",
            "Both are [N, V].",
        )
    error = (phi * student - teacher).square().sum()
    return error / max(len(student), 1)
