"""DisBack: a one-step generator that follows its teacher's degradation backwards."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pld_mmdet.diffusion.dmd2 import DMD2
from pld_mmdet.distill.teachers import Teacher
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class DisBack(DMD2):
    r"""Distribution backtracking distillation (Zhang et al. 2024, arXiv 2408.15991).

    Score distillation whose target moves. Stages::

        teacher   trains the teacher, where it has no weights of its own
        degrade   the generator G0 is a copy and stays; the fake score network, a copy
                  too, is trained on its samples; snapshots s'_1 ... s'_N
        distill   targets s'_N, ..., s'_1, teacher; the critic begins as s'_N, which
                  would move nothing, so the first target is the one after it;
                  K steps each, the teacher takes the rest

        g = (D_phi - D_target) / mean|x - D_target|,  L_G = 0.5 mean (x - sg[x - g])^2

    Deviations from the released code (SYZhang0805/DisBack, d015b5e, MIT), in which a
    wrong guard changes the target once and never again, and runs start from a
    distilled generator: the paper is followed. The normaliser of g is DMD2's, as in the
    released code; the paper writes a weight w(t). Snapshots are in the model, not in
    files, so that any checkpoint goes on.

    Args:
        process: As in ``DMD2``.
        denoiser: As in ``DMD2``.
        snapshots: Steps of the stage ``degrade`` after which one is kept, ascending.
        node_steps: K [1000].
        backtrack: Without, all steps have the teacher as their target (a control).
        critic_from: ``snapshot``, the last one, or ``teacher``: with
            ``backtrack=False`` this is plain score distillation.
        generator_interval: As in ``DMD2`` [1; released for SDXL: 5].
        gan_weight: As in ``DMD2`` [0; released for SDXL: 5e-3].
        head, bottleneck: As in ``DMD2``, of the GAN; without a weight nothing of it
            learns, and a single layer stands for the head.
        more: As in ``DMD2``.

    Raises:
        UserError: Snapshots that are not ascending.
    """

    def __init__(
        self,
        process: dict,
        denoiser: dict,
        snapshots: Sequence[int],
        node_steps: int = 1000,
        backtrack: bool = True,
        critic_from: str = "snapshot",
        generator_interval: int = 1,
        gan_weight: float = 0.0,
        head: dict | None = None,
        bottleneck: str = "",
        **more,
    ) -> None:
        one_of("DisBack", critic_from=(critic_from, ("snapshot", "teacher")))
        steps = list(snapshots)
        if steps != sorted(set(steps)) or any(step < 1 for step in steps):
            raise UserError(
                f"DisBack: snapshots={steps} is no ascending list of steps.",
                "Give steps of the stage `degrade`, such as (50, 100, 150, 200).",
            )
        if gan_weight and not (head and bottleneck):
            raise UserError(
                "DisBack: gan_weight needs a head and a bottleneck.",
                "Set both as for DMD2, or gan_weight=0.",
            )
        super().__init__(
            process=process,
            denoiser=denoiser,
            head=head or dict(type="pld_mmdet.MLPHead", sizes=(1,)),
            bottleneck=bottleneck,
            generator_interval=generator_interval,
            gan_weight=gan_weight,
            **more,
        )
        if not gan_weight:
            self.critic.head.requires_grad_(False)
        self.snapshots, self.node_steps = tuple(steps), node_steps
        self.backtrack, self.critic_from = backtrack, critic_from
        # as recorded: s'_1 first
        self.path = nn.ModuleList(
            Teacher(copy.deepcopy(self.critic.network)) for _ in steps
        )

    def start_stage(self, name: str, loader: object, folder: object) -> None:
        """The denoiser of the stage before is the teacher; a critic may begin anew."""
        if name == "degrade":
            super().start_stage("distill", loader, folder)
        if name != "distill":
            return
        teacher = self.real.network.state_dict()
        ours = self.generator.state_dict()
        # a run that goes on exactly here: the generator is still the teacher
        self._taught |= all(torch.equal(ours[k], v) for k, v in teacher.items())
        if self.critic_from == "teacher":
            self.critic.network.load_state_dict(teacher)
        elif self.path:  # also where `degrade` goes on behind the last snapshot
            last = self.path[-1].network.state_dict()
            self.critic.network.load_state_dict(last)

    def targets(self) -> list[nn.Module]:
        """Most degraded first, the teacher last."""
        return [*reversed(self.path), self.real]

    def target(self) -> nn.Module:
        """What the generator follows at this step."""
        path = self.targets()
        if not self.backtrack:
            return path[-1]
        return path[node(self.progress.step, self.node_steps, len(path) - 1)]

    def step_degrade(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """The fake score network learns what the first generator makes."""
        logs = self.critic_step(batch, optim_wrapper)
        done = self.progress.known().step + 1
        if done in self.snapshots:
            kept = self.path[self.snapshots.index(done)]
            kept.network.load_state_dict(self.critic.network.state_dict())
        return logs


def node(step: int, share: int, last: int) -> int:
    """Which target a step has: min(1 + floor(step / share), last).

    Args:
        step: Of the stage, from 0.
        share: K, steps of a node.
        last: N, number of the teacher; node 0 is where the critic begins.
    """
    return min(1 + step // share, last)
