"""Watches self-training for a collapse, by signs that need no label."""

import copy
import math
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from pld_mmdet.detection.hooks.collapse_signs import CollapseSigns
from pld_mmdet.detection.hooks.decline import SourceBoxes
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.registry import HOOKS

STATE_KEY = "pld_collapse_guard"
FILE = "guard.json"
ACTIONS = ("warn", "stop", "rollback")
_STATE = (
    "names",
    "first",
    "last_seen",
    "alarms",
    "rollbacks",
    "sums",
    "steps",
    "evaluated_at",
)
_WEIGHTS = "good", "newest", "source"  # never changed in place, so not copied


@HOOKS.register_module()
class CollapseGuardHook(Hook):
    """Warns in words, and stops or rolls back before good weights are lost.

    Every ``interval`` steps a window ends. Its numbers are scalars (``guard/...``) and
    a row of ``guard.json`` in the work dir: pseudo boxes per image and class, mean
    score and mean binary entropy of the teacher's detections, agreement of the teacher
    on the weak view with the student on the strong one, and the teacher's relative
    distance from the source weights (of parameters).

    A window is an *alarm* when, against the first window of the run, there are far
    fewer or far more boxes, the agreement or the mean score has fallen too far, the
    classes' shares of the boxes have moved too far, most classes have gone silent; or,
    without a comparison, when there is not a single pseudo box, the two networks agree
    on hardly any, or the teacher is far from the source weights. With ``probe`` it is
    also one when the teacher has lost too many boxes that the source was sure of: a
    slow decline, which no comparison with the first window shows. ``patience`` alarms
    in a row are a collapse, and so are ``max_skipped`` steps in a row without a finite
    loss or gradient. The last good state is the one that the last window without alarm
    *began* with: a collapse is on its way before it is seen. That state and the newest
    one without alarm are held in (host) memory.

    Everything the hook knows is in the checkpoint: the window that is being added up,
    the source weights, the two good states (not with ``'warn'``, which never goes back
    to them) and that it stopped. So a run that is killed beside an alarm goes back to
    the same weights, and one that is killed after a stop trains no further.

    Args:
        interval: Steps in a window.
        action: At a collapse: ``'warn'`` only says so; ``'stop'`` puts the last good
            state back, saves it as the newest checkpoint and ends the training;
            ``'rollback'`` puts it back and goes on with a smaller learning rate, and
            stops when that happened ``max_rollbacks`` times.
        kind: Which of ``model.pseudo_counts`` are the pseudo labels.
        patience: Alarms in a row that are a collapse.
        max_skipped: Steps skipped in a row by ``FiniteOptimWrapper`` that are one. With
            ``action='warn'`` the wrapper's own limit ends the run.
        lr_factor: Factor of the learning rate after a roll-back.
        max_rollbacks: Roll-backs before it stops.
        probe: Keys of :class:`SourceBoxes` (``images``, ``min_kept``, ``max_decline``,
            ``acts``; ``dict()`` for its defaults): at the end of each window the
            teacher is asked on these images, too. None: no image is looked at.
        **signs: Limits of the numbers, see :class:`CollapseSigns`.
    """

    # After TeacherEMAHook (NORMAL) and AdaBNHook (BELOW_NORMAL), before CheckpointHook
    # (VERY_LOW).
    priority = "LOW"

    def __init__(
        self,
        interval: int = 50,
        action: str = "warn",
        kind: str = "high",
        patience: int = 2,
        max_skipped: int = 5,
        lr_factor: float = 0.5,
        max_rollbacks: int = 2,
        probe: dict | None = None,
        **signs,
    ) -> None:
        if action not in ACTIONS or interval < 1 or patience < 1:
            raise UserError(
                f"CollapseGuardHook: action={action!r}, interval={interval}, "
                f"patience={patience} is not possible.",
                f"action is one of {', '.join(map(repr, ACTIONS))}; the others are at "
                "least 1.",
            )
        self.interval = interval
        self.action = action
        self.kind = kind
        self.signs = CollapseSigns(**signs)
        self.patience = patience
        self.max_skipped = max_skipped
        self.lr_factor = lr_factor
        self.max_rollbacks = max_rollbacks
        self.probe = None if probe is None else SourceBoxes(**probe)
        self.windows: list[dict] = []
        self.events: list[dict] = []
        self.stopped = False
        self._names: list[str] = []
        self._images = interval
        self._first: dict | None = None
        self._last_seen: list[int | None] | None = None
        self._warned: set[str] = set()
        self._alarms = self._rollbacks = 0
        self._good: dict | None = None
        self._newest: dict | None = None
        self._source: list[Tensor] | None = None
        self._sums: Tensor | None = None
        self._steps = 0
        self._evaluated_at = -1

    def before_train(self, runner: Runner) -> None:
        """Remember the source weights and the state that a collapse goes back to."""
        model = unwrapped(runner.model)
        if not hasattr(model, "pseudo_counts") or not hasattr(model, "teacher"):
            raise UserError(
                f"CollapseGuardHook watches pseudo labels; {type(model).__name__} has "
                "none.",
                "Take the hook out of custom_hooks, or wrap the detector, for example "
                "in pld_mmdet.MeanTeacherSFOD.",
            )
        batch = getattr(runner.train_dataloader, "batch_size", None) or 1
        self._images = self.interval * batch * get_world_size()
        if runner.iter == 0:
            self._source = [
                p.detach().cpu().clone() for p in model.teacher.parameters()
            ]
            self._label_source(runner, model)
        if self._newest is None:
            self._remember(runner, runner.iter)
        if self.stopped:
            runner.train_loop.stop_training = True
            runner.logger.warning(
                "Collapse guard: this run was stopped before; nothing is trained."
            )

    def _label_source(self, runner: Runner, model: nn.Module) -> None:
        """Let the probe remember what the source is sure of."""
        if self.probe is None:
            return
        if not hasattr(model, "teacher_boxes"):
            raise UserError(
                f"CollapseGuardHook: probe asks for the teacher's boxes on one image, "
                f"and {type(model).__name__} has no teacher_boxes.",
                "Leave probe out, or wrap the detector, for example in "
                "pld_mmdet.MeanTeacherSFOD.",
            )
        self.probe.label(model, runner.train_dataloader.dataset)

    def after_train_iter(
        self, runner: Runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Add up, and judge at the end of a window."""
        model = unwrapped(runner.model)
        counts = model.pseudo_counts.get(self.kind)
        if counts is None:
            return
        scores = getattr(model, "pseudo_scores", None)
        scores = counts.new_zeros(3) if scores is None else scores.to(counts)
        sums = torch.cat([counts, scores]).float()
        all_reduce(sums, op="mean")  # so that process 0 can save what all of them saw
        self._sums = sums if self._sums is None else self._sums.to(sums) + sums
        self._steps += 1
        self._names = self._names or _class_names(runner, len(counts))
        skipped = _skipped(runner)
        if skipped >= self.max_skipped and self.action != "warn":
            self._sums, self._steps = None, 0
            self._collapse(
                runner, [f"no loss or gradient was finite for {skipped} steps in a row"]
            )
            self._write(runner)
        elif (runner.iter + 1) % self.interval == 0:
            window = self._measure(runner, model, data_batch)
            self._judge(runner, window)

    @torch.no_grad()
    def _measure(self, runner: Runner, model: nn.Module, data_batch) -> dict:
        """Close the window: its numbers, the same on all processes."""
        means = self._sums.double() / self._steps
        self._sums, self._steps = None, 0
        values = means.tolist()
        classes, (score, entropy, boxes) = values[:-3], values[-3:]
        window = dict(
            iter=runner.iter + 1,
            classes=[round(v, 5) for v in classes],
            boxes=sum(classes),
            score=score / boxes if boxes else 0.0,
            entropy=entropy / boxes if boxes else 0.0,
        )
        if data_batch is not None and hasattr(model, "view_agreement"):
            agreeing = model.view_agreement(data_batch).double()
            all_reduce(agreeing, op="sum")
            matched, total = agreeing.tolist()
            window["agreement"] = matched / total if total else 0.0
            window["compared"] = round(total)
        if self._source is not None:
            window["distance"] = _distance(model.teacher, self._source)
        if self.probe is not None:
            kept = self.probe.kept(model, runner.train_dataloader.dataset)
            if kept is not None:
                window["found"], window["kept"] = kept[0], kept[0] / kept[1]
        return window

    def _judge(self, runner: Runner, window: dict) -> None:
        names = self._names
        if self._first is None:
            self._first = dict(window)
            self._last_seen = [None] * len(names)
        now = window["iter"]
        for n, count in enumerate(window["classes"]):
            if count > 0:
                self._last_seen[n] = now
                self._warned.discard(names[n])
        seen = dict(zip(names, self._last_seen, strict=True))
        signs = self.signs.judge(self._first, window, seen, self._images)
        if "kept" in window:
            signs += self._lost(runner, window)
        window.update(silent=self.signs.silent(now, seen), signs=signs)
        self.windows.append(window)
        self._say_silent(runner, now, seen)
        self._alarms = self._alarms + 1 if signs else 0
        if not signs:
            if not _skipped(runner):  # else these weights give no finite loss
                self._remember(runner, now)
        elif self._alarms < self.patience:
            self._event(runner, "; ".join(signs))
        else:
            self._collapse(runner, signs)
        scalars = {
            f"guard/{key}": window[key]
            for key in ("boxes", "score", "entropy", "agreement", "distance", "kept")
            if key in window
        }
        scalars["guard/alarms"] = self._alarms
        runner.visualizer.add_scalars(scalars, step=now)
        self._write(runner)

    def _lost(self, runner: Runner, window: dict) -> list[str]:
        """What the probe finds lost, as signs; one that does not act is said once."""
        best = max((w["kept"] for w in self.windows if "kept" in w), default=0.0)
        lost = self.probe.judge(window["found"], best)
        if self.probe.acts:
            return lost
        window["lost"] = lost
        if lost and not (self.windows and self.windows[-1]["lost"]):
            self._event(runner, lost[0])
        return []

    def _say_silent(
        self, runner: Runner, now: int, seen: dict[str, int | None]
    ) -> None:
        """One sentence for all that went silent; one that never was is no alarm."""
        gone = [n for n in self.signs.lost(now, seen) if n not in self._warned]
        self._warned.update(gone)
        if gone:
            since = max(seen[name] for name in gone)
            first = ", ".join(gone[:8]) + (", ..." if len(gone) > 8 else "")
            many = f"{len(gone)} classes ({first}) have"
            who = many if len(gone) > 1 else f"class {first} has"
            what = f"{who} had no pseudo label for {now - since} iterations"
            self._event(runner, what)

    def _collapse(self, runner: Runner, signs: list[str]) -> None:
        what = f"self-training has collapsed: {'; '.join(signs)}"
        if self.action == "warn":
            self._event(runner, f"{what}. Only a warning was asked for; it goes on")
            return
        good = self._good["iter"]
        self._restore(runner)
        self._alarms = 0
        if self.action == "rollback" and self._rollbacks < self.max_rollbacks:
            self._rollbacks += 1
            for group in runner.optim_wrapper.optimizer.param_groups:
                group["lr"] *= self.lr_factor
            self._event(
                runner,
                f"{what}. Back to the weights of iteration {good}, learning rate times "
                f"{self.lr_factor:g} ({self._rollbacks} of {self.max_rollbacks})",
                weights_of=good,
            )
            return
        self.stopped = True
        runner.train_loop.stop_training = True
        self._event(
            runner,
            f"{what}. Back to the weights of iteration {good}, and stopped. "
            + (
                "Lower the learning rate or raise the threshold of the pseudo labels"
                if any(self._first["classes"])
                else "There was none from the beginning: lower their threshold, or see "
                "whether these images show what the detector knows"
            ),
            weights_of=good,
        )

    def _remember(self, runner: Runner, iteration: int) -> None:
        """Hold the present state; the one before it has proved good."""
        if self.action == "warn":
            return
        good = self._newest
        self._newest = dict(
            iter=iteration,
            model=_on_host(unwrapped(runner.model).state_dict()),
            optimizer=_on_host(runner.optim_wrapper.state_dict()),
        )
        self._good = good or self._newest

    def _restore(self, runner: Runner) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        unwrapped(runner.model).load_state_dict(self._good["model"])
        runner.optim_wrapper.load_state_dict(copy.deepcopy(self._good["optimizer"]))
        runner.optim_wrapper.zero_grad()  # of the weights that are gone
        self._newest = self._good
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = min(group["lr"], rate)  # keep earlier reductions

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        """Note which weights have been evaluated."""
        self._evaluated_at = runner.iter

    def after_train(self, runner: Runner) -> None:
        """After a stop: save and evaluate the good weights."""
        if not self.stopped:
            return
        step = dict(epoch=runner.epoch, iter=runner.iter)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                number = runner.epoch if hook.by_epoch else runner.iter
                hook._save_checkpoint_with_step(runner, number, meta=step)
        if runner.val_loop is not None and self._evaluated_at != runner.iter:
            runner.val_loop.run()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store all that this hook knows."""
        state = {name: getattr(self, f"_{name}") for name in _STATE}
        weights = {name: getattr(self, f"_{name}") for name in _WEIGHTS}
        more = dict(
            warned=sorted(self._warned),
            windows=self.windows,
            events=self.events,
            stopped=self.stopped,
        )
        if self.probe is not None:
            more["probe"] = self.probe.state()
        checkpoint[STATE_KEY] = {**copy.deepcopy({**state, **more}), **weights}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on judging where a resumed run was."""
        if not runner._resume or STATE_KEY not in checkpoint:
            return
        state = checkpoint[STATE_KEY]
        for name in (*_STATE, *_WEIGHTS):
            if name in state:  # checkpoints up to 0.1 had less
                setattr(self, f"_{name}", state[name])
        self._warned = set(state["warned"])
        self.windows, self.events = state["windows"], state["events"]
        self.stopped = state.get("stopped", False)
        if self.probe is not None:
            self.probe.load(state.get("probe"))

    def _event(self, runner: Runner, sentence: str, **more: int) -> None:
        self.events.append(dict(iter=runner.iter + 1, what=sentence, **more))
        runner.logger.warning(
            f"Collapse guard, iteration {runner.iter + 1}: {sentence}."
        )

    def _write(self, runner: Runner) -> None:
        if not is_main_process():
            return
        state = "stopped" if self.stopped else "alarm" if self._alarms else "sound"
        content = dict(
            state=state,
            action=self.action,
            rollbacks=self._rollbacks,
            classes=self._names,
            windows=self.windows,
            events=self.events,
        )
        write_json(Path(runner.work_dir) / FILE, content)


def _skipped(runner: Runner) -> int:
    """Steps in a row without a finite loss; wrappers other than ours do not count."""
    return getattr(runner.optim_wrapper, "skipped_in_a_row", 0)


def _class_names(runner: Runner, count: int) -> list[str]:
    meta = getattr(runner.train_dataloader.dataset, "metainfo", None) or {}
    names = list(meta.get("classes", ()))
    return names if len(names) == count else [str(n) for n in range(count)]


def _distance(teacher: nn.Module, source: list[Tensor]) -> float:
    """Length of the way from the source weights, as a share of their length."""
    moved = length = 0.0
    for ours, theirs in zip(teacher.parameters(), source, strict=True):
        moved += (ours.detach().cpu() - theirs).double().square().sum().item()
        length += theirs.double().square().sum().item()
    return math.sqrt(moved / max(length, 1e-12))


def _on_host(tree):
    """A copy of nested states in host memory."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return type(tree)((k, _on_host(v)) for k, v in tree.items())
    if isinstance(tree, list | tuple):
        return type(tree)(_on_host(v) for v in tree)
    return copy.deepcopy(tree)
