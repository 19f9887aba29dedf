"""The frame of a method outside detection: a batch in, named losses or answers out."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.model import BaseModel
from mmengine.model.weight_init import PretrainedInit, initialize
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.distill.teachers import Frozen
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.engine.run.ranges import ranges_said
from pld_mmdet.engine.state.weights import copies_kept, start_networks, whole_files
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import MODELS


class Method(BaseModel):
    """An mmengine model whose batches are plain dicts of tensors.

    A subclass reads like its paper's algorithm box. It writes ``loss``, or one
    ``loss_<stage>`` for each stage of ``StagedLoop``, and ``outputs``; an iteration of
    several optimizer steps is a ``step_<stage>(batch, optim_wrapper)``. Data loaders
    use ``collate_fn=dict(type='default_collate')``: the samples of a data set,
    ``dict(inputs=..., targets=...)``, become one dict of stacked tensors whose entries
    arrive as keyword arguments.

    ``self.progress`` says where the run stands (:class:`Progress`): no method counts
    iterations or asks the runner. Teachers are held in ``pld_mmdet.distill.teachers``:
    they stay in evaluation mode and without gradient, whatever ``train()`` is called
    with.

    Args:
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.
    """

    #: The stage of a run without ``StagedLoop``.
    default_stage = "distill"
    #: What the ``work_dataloader`` of a stage (a number may follow) brings, for those
    #: that cannot begin without.
    work: Mapping[str, str] = {}
    #: Buffers that checkpoints of earlier versions hold and nothing reads any more.
    retired_state: Sequence[str] = ()

    def __init__(
        self, data_preprocessor: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.progress = Progress(stage=self.default_stage)
        self._register_load_state_dict_pre_hook(self._leave_retired)

    def init_weights(self) -> None:
        """Each network begins as its ``init_cfg`` says, wherever it is held.

        A copy of a network (an average, an anchor) begins as it does.

        Raises:
            UserError: A file that does not fill its network.
        """
        own = self.init_cfg or []
        own = own if isinstance(own, list) else [own]
        files = [one for one in own if one["type"] in ("Pretrained", PretrainedInit)]
        self.init_cfg = [one for one in own if one not in files]
        with whole_files():
            with copies_kept(self):
                super().init_weights()
                start_networks(self)
            self.init_cfg = own or None
            if files:  # of the whole model: the last word
                initialize(self, files)

    def forward(self, mode: str = "tensor", **batch) -> dict | list | Tensor:
        """mmengine's entry: ``loss`` while training, ``predict`` for metrics.

        Args:
            mode: ``loss``, ``predict`` or ``tensor``.
            batch: The entries of a collated batch.
        """
        if mode == "loss":
            return self.loss(**batch)
        if mode == "predict":
            return self.predict(**batch)
        return self.outputs(**batch)

    def loss(self, *args, **batch) -> dict[str, Tensor]:
        """Named losses; the ones whose name contains ``loss`` are summed.

        The default asks ``loss_<stage>``. A number at the end of a stage's name is not
        looked at where there is no such method: ``round_2`` asks ``loss_round``.

        Raises:
            UserError: There is none for this stage.
        """
        self.check_stage(self.progress.stage)
        return self._of_stage("loss", self.progress.stage)(*args, **batch)

    def predict(self, **batch) -> list[dict]:
        """One dict of whole-batch tensors: ``outputs`` as logits beside ``targets``."""
        return [{"logits": self.outputs(**batch), "targets": batch["targets"]}]

    def outputs(self, **batch) -> Tensor:
        """What ``mode='tensor'`` answers with; by default it is not supported."""
        raise NotImplementedError(f"{type(self).__name__} has no plain tensor output.")

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """One iteration: ``step_<stage>`` where there is one, else loss and update.

        Raises:
            UserError: A label or another index is none that the model has.
        """
        own = self._of_stage("step", self.progress.stage)
        with ranges_said(data):
            if own is None:
                return super().train_step(data, optim_wrapper)
            return own(self.data_preprocessor(data, True), optim_wrapper)

    def step(
        self,
        optim_wrapper,
        losses: Callable[[], dict[str, Tensor]],
        part: str | None = None,
        *,
        network: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Context, losses, sum, update: one step of an optimizer.

        Args:
            optim_wrapper: Of the run.
            losses: Makes the named losses; called inside the wrapper's context. Where
                no name contains ``loss``, nothing is updated.
            part: Which member of several optimizers steps [there is only one].
            network: What the context is opened for [this model]; a wrapper that reduces
                gradients over processes.

        Returns:
            The values for the log.
        """
        wrapper = optim_wrapper if part is None else optim_wrapper[part]
        with wrapper.optim_context(self if network is None else network):
            found = losses()
        if not any("loss" in name for name in found):
            return found
        total, logs = self.parse_losses(found)
        wrapper.update_params(total)
        return logs

    def check_data(self, dataset: object) -> None:
        """Refuse training data that the model cannot learn from; asked at the start.

        Args:
            dataset: Of the loop's loader. The default takes all.
        """

    def check_stage(self, stage: str) -> None:
        """Refuse a stage that nothing is written for; ``StagedLoop`` asks at its start.

        Raises:
            UserError: ``loss`` asks by stage, and this one has no ``loss_<stage>`` or
                ``step_<stage>``.
        """
        if type(self).loss is not Method.loss:
            return  # its own loss knows
        if any(self._of_stage(kind, stage) for kind in ("loss", "step")):
            return
        found = (re.match("(?:loss|step)_(.+)", name) for name in dir(type(self)))
        known = sorted({match[1] for match in found if match})
        raise UserError(
            f"{type(self).__name__} has no stage {stage!r}.",
            f"Name the stages of train_cfg {', '.join(known)}; a number may follow."
            if known
            else f"Write {type(self).__name__}.loss.",
        )

    def wants_work(self, stage: str) -> str | None:
        """What a stage's ``work_dataloader`` must bring, in words; None: it needs none.

        A subclass whose arguments decide overrides it.
        """
        return self.work.get(stage, self.work.get(_unnumbered(stage)))

    def check_work(self, stage: str, loader: object) -> None:
        """Refuse a stage without what it works on; ``StagedLoop`` asks at its start.

        Raises:
            UserError: ``loader`` is None, and :meth:`wants_work` says something.
        """
        wanted = self.wants_work(stage)
        if loader is None and wanted:
            raise UserError(
                f"{type(self).__name__}: the stage {stage} has no work_dataloader.",
                f"Give it one of {wanted}.",
            )

    def _leave_retired(self, state: dict, prefix: str, *_) -> None:
        for name in self.retired_state:
            state.pop(prefix + name, None)

    def _of_stage(self, kind: str, stage: str) -> Callable | None:
        for name in (stage, _unnumbered(stage)):
            method = getattr(self, f"{kind}_{name}", None)
            if method is not None:
                return method
        return None


def _unnumbered(stage: str) -> str:
    return re.sub(r"_?\d+$", "", stage)


class TeacherStudent(Method):
    """A student, its teacher, and the word that says which of them answers.

    A subclass with other answers names them in ``answers``; each is a module of the
    model, or ``outputs`` is written anew. One with another kind of teacher (one that
    learns, an average) writes ``build_teacher``.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teacher: Config of the network that it learns from, frozen.
        predict_on: One of ``answers`` [``student``].
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.

    Raises:
        UserError: An unknown ``predict_on``.
    """

    answers: Sequence[str] = ("student", "teacher")

    def __init__(
        self,
        student: dict,
        teacher: dict | None,
        predict_on: str = "student",
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        one_of(type(self).__name__, predict_on=(predict_on, self.answers))
        self.predict_on = predict_on
        # The student first: its initial weights are then those of a plain classifier.
        self.student = self.build_student(student)
        self.teacher = self.build_teacher(teacher)

    def build_student(self, config: dict) -> nn.Module:
        """The network that learns."""
        return MODELS.build(config)

    def build_teacher(self, config: dict | None) -> nn.Module:
        """The network that teaches; ``self.student`` is already there."""
        return Frozen(MODELS.build(config))

    def outputs(self, inputs: Tensor, **_) -> Tensor:
        """Logits N x C of the network that ``predict_on`` names."""
        return getattr(self, self.predict_on)(inputs)


class DistilledClassifier(TeacherStudent):
    """Cross-entropy with the labels, and a distance to a frozen teacher's logits.

        loss = CE(z_s, y) + weight * distance(z_t, z_s)

    A method is its ``distance``.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teacher: Config of a network with as many outputs; frozen.
        weight: Of the distance [1].
        predict_on: ``student`` (the result) or ``teacher``.
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        weight: float = 1.0,
        predict_on: str = "student",
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teacher, predict_on, data_preprocessor, init_cfg)
        self.weight = weight

    def loss(self, inputs: Tensor, targets: Tensor, **_) -> dict[str, Tensor]:
        """Named losses of a batch: N x ..., N labels."""
        z_s = self.student(inputs)
        with torch.no_grad():
            z_t = self.teacher(inputs)
        return {
            "loss_ce": F.cross_entropy(z_s, targets),
            "loss_kd": self.weight * self.distance(z_t, z_s),
        }

    @abstractmethod
    def distance(self, z_t: Tensor, z_s: Tensor) -> Tensor:
        """How far the student is from the teacher, a scalar: [N, C] each."""
