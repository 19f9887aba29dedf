"""A student that starts as its teacher, a denoiser of the same architecture."""

import torch
from torch import Tensor, nn

from pld_mmdet.diffusion.networks.denoisers import start_from
from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


class TaughtDenoiser(Method):
    """Where the teacher comes from, for methods with one student.

    Without weights of its own it comes from ``StagedLoop``: a stage of the name
    ``teacher`` trains the student as a denoiser, and a stage ``distill`` begins with
    copies of it. ``load_from`` may bring a denoiser instead.

    Args:
        process: Config of the process.
        network: Config of the student, ``(x, time, condition) -> x``.
        teacher: Config of a network that brings its own weights, of the same
            architecture. None: what the stage ``teacher`` made.
        keep_student: The student does not begin as the teacher.
    """

    def __init__(
        self,
        process: dict,
        network: dict,
        teacher: dict | None = None,
        keep_student: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.process = MODELS.build(process)
        self.student = MODELS.build(network)
        self.teacher = Frozen(MODELS.build(teacher or network))
        self._taught, self._keep_student = teacher is not None, keep_student
        self._network = network
        self.begin()

    def init_weights(self) -> None:
        """The student begins as the teacher."""
        super().init_weights()
        self.begin()

    def start_stage(self, name: str, loader: object, folder: object) -> None:
        """The denoiser of the stage before, or of ``load_from``, is the teacher."""
        if name != "distill" or self._taught:
            return
        self.teacher.network.load_state_dict(self.student.state_dict())
        self._taught = True
        if self._keep_student:
            fresh = MODELS.build(self._network).state_dict()
            self.student.load_state_dict(fresh)
        self.begin()

    def begin(self) -> None:
        """Give the student, and what else starts there, the teacher's weights."""
        if self._taught and not self._keep_student:
            owner, name = type(self).__name__, "model.network"
            starters = self.starters()
            start_from(self.teacher.network, *starters, owner=owner, name=name)

    def starters(self) -> tuple[nn.Module, ...]:
        """The networks that begin as the teacher."""
        return (self.student,)

    def loss_teacher(self, inputs: Tensor, targets: Tensor | None = None, **_) -> dict:
        """Denoising of the future teacher, at all times alike."""
        t = self.process.times(len(inputs), inputs)
        noise = torch.randn_like(inputs)
        loss = self.process.matching_loss(self.student, inputs, t, noise, targets)
        return {"loss_teacher": loss}

    def need_teacher(self) -> None:
        """Refuse to distil nothing."""
        if not self._taught and self.progress.step == 0:
            name = type(self).__name__
            raise UserError(
                f"{name} has no teacher: model.teacher is None, and no stage trained "
                "one.",
                "Set model.teacher, or train with StagedLoop and a stage `teacher`.",
            )
