"""The collapse guard: scripted pseudo labels on a toy model, judged by a real run."""

import copy
import json
import os
import random
import signal
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, MODELS, RUNNERS
from torch import nn

from pld_mmdet.detection.hooks import CollapseGuardHook
from pld_mmdet.detection.hooks.collapse_guard import STATE_KEY
from pld_mmdet.engine.state.newest import find_latest
from pld_mmdet.errors import UserError
from tests.engine.processes import forked
from tests.engine.state.test_resume import differences
from tests.engine.toy import ToyAccuracy, ToyModel, write_config


@MODELS.register_module(force=True)
class ScriptedTeacher(ToyModel):
    """A student that learns, a teacher that follows, pseudo labels from a script.

    Args:
        script: (steps, boxes of each class an image, mean score, agreement) rows.
        nan_after: Steps with a finite loss.
    """

    def __init__(self, script, nan_after=1000):
        super().__init__()
        self.nan_after = nan_after
        self.student = self.net
        self.teacher = nn.Sequential(*[nn.Linear(6, 8), nn.Linear(8, 2)])
        self.script = [row[1:] for row in script for _ in range(row[0])]
        self.pseudo_counts, self.pseudo_scores, self.step = {}, None, 0
        self.hub = MessageHub.get_current_instance()

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if mode == "loss":
            self.step = self.hub.get_info("iter")
            counts, score, _ = self.script[min(self.step, len(self.script) - 1)]
            self.pseudo_counts = {"high": torch.tensor(counts)}
            self.pseudo_scores = torch.tensor([score, 0.3, 1.0]) * sum(counts)
            with torch.no_grad():  # moves a little at each step
                self.teacher[0].weight.add_(0.001)
        found = super().forward(inputs, data_samples, mode)
        if mode == "loss" and self.step >= self.nan_after:
            found = {name: loss * float("nan") for name, loss in found.items()}
        return found

    def view_agreement(self, data_batch):
        agreement = self.script[min(self.step, len(self.script) - 1)][2]
        return torch.tensor([agreement * 10, 10.0])


SOUND = ([2.0, 1.0], 0.5, 0.8)


def run(tmp_path, script, iters=24, resume=None, nan_after=1000, **guard):
    tmp_path.mkdir(exist_ok=True)
    cfg = Config.fromfile(str(write_config(tmp_path)))
    cfg.model = dict(type="ScriptedTeacher", script=script, nan_after=nan_after)
    cfg.work_dir = str(tmp_path / "run")
    cfg.train_cfg.max_iters = iters
    cfg.custom_hooks = [
        dict(type="pld_mmdet.IterationSeedHook"),
        dict(type="pld_mmdet.CollapseGuardHook", interval=4, **guard),
    ]
    cfg.param_scheduler = []
    cfg.experiment_name = tmp_path.name
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)
    runner = RUNNERS.build(cfg)
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, CollapseGuardHook))
    return runner, hook, json.loads((tmp_path / "run" / "guard.json").read_text())


def weights_of(tmp_path, name):
    path = tmp_path / "run" / name
    return torch.load(path, weights_only=True)["state_dict"]


def test_sound_run_is_left_alone_and_written_down(tmp_path):
    runner, _, written = run(tmp_path, [(24, *SOUND)], action="stop")
    assert runner.iter == 24
    assert written["state"] == "sound"
    assert written["events"] == []
    assert written["classes"] == ["cat", "dog"]
    assert [w["iter"] for w in written["windows"]] == [4, 8, 12, 16, 20, 24]
    last = written["windows"][-1]
    assert last["boxes"] == pytest.approx(3.0)
    assert last["score"] == pytest.approx(0.5)
    assert last["entropy"] == pytest.approx(0.3)
    assert last["agreement"] == pytest.approx(0.8)
    assert last["distance"] > written["windows"][0]["distance"] > 0


def test_forced_collapse_stops_and_the_newest_checkpoint_is_the_good_one(tmp_path):
    script = [(8, *SOUND), (30, [0.0, 0.1], 0.1, 0.1)]
    runner, hook, written = run(tmp_path, script, action="stop")
    # windows 3 and 4 are alarms; the state that window 2 began with comes back
    assert runner.iter == 16
    assert written["state"] == "stopped"
    said = [e["what"] for e in written["events"]]
    assert said[0].startswith("pseudo labels have fallen from 3.00 to 0.10 an image")
    assert "agreement of teacher and student has fallen from 0.80 to 0.10" in said[0]
    assert "Back to the weights of iteration 4, and stopped" in said[-1]
    assert written["events"][-1]["weights_of"] == 4
    newest = (tmp_path / "run" / "last_checkpoint").read_text()
    assert newest.endswith("iter_16.pth")
    good, before = weights_of(tmp_path, "iter_16.pth"), hook._good["model"]
    assert all(torch.equal(good[k], before[k]) for k in good)
    # a bad state was saved on the way (iteration 12): the weights moved and came back
    bad = weights_of(tmp_path, "iter_12.pth")
    assert not torch.equal(bad["teacher.0.weight"], good["teacher.0.weight"])


@pytest.mark.parametrize(("patience", "end"), [(1, 12), (3, 20)])
def test_patience_and_one_evaluation_of_what_was_put_back(
    tmp_path, monkeypatch, patience, end
):
    """It stops between two evaluations (12), or where one has just been made (20)."""
    made = []

    def count(self, results):
        made.append(MessageHub.get_current_instance().get_info("iter"))
        return {"accuracy": 1.0}

    monkeypatch.setattr(ToyAccuracy, "compute_metrics", count)
    script = [(8, *SOUND), (30, [0.0, 0.1], 0.1, 0.1)]
    runner, _, written = run(tmp_path, script, action="stop", patience=patience)
    assert runner.iter == end
    assert written["events"][-1]["weights_of"] == 4
    assert len(made) == 1 + end // 5 - (end == 20)  # every five, and at the end


def test_one_class_takes_over(tmp_path):
    """Boxes, scores and agreement stay; the shares move from 2/3 and 1/3 to 0 and 1.

    Two classes and 3 boxes on each of 16 images: chance explains sqrt(2 / 48) / 2,
    0.10, so the limit is 0.35. A shift of 0.33 is below it, one of 0.67 above.
    """
    script = [(8, *SOUND), (4, [1.0, 2.0], 0.5, 0.8), (30, [0.0, 3.0], 0.5, 0.8)]
    runner, _, written = run(tmp_path, script, action="stop")
    assert [len(w["signs"]) for w in written["windows"]] == [0, 0, 0, 1, 1]
    said = written["events"][-1]["what"]
    assert "class dog has grown from 33 % to 100 % of the pseudo labels" in said
    assert "Back to the weights of iteration 8" in said
    assert runner.iter == 20


def test_roll_back_goes_on_slower_and_gives_up_after_a_while(tmp_path):
    script = [(8, *SOUND), (100, [0.0, 0.0], 0.1, 0.1)]
    runner, _, written = run(
        tmp_path, script, iters=80, action="rollback", max_rollbacks=2, lr_factor=0.5
    )
    said = [e["what"] for e in written["events"] if "collapsed" in e["what"]]
    assert len(said) == 3
    assert "learning rate times 0.5 (1 of 2)" in said[0]
    assert "and stopped" in said[2]
    assert written["rollbacks"] == 2
    assert runner.iter == 8 + 3 * 8
    rate = runner.optim_wrapper.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(0.05 * 0.25)


def test_roll_back_recovers_when_the_cause_is_gone(tmp_path):
    script = [(8, *SOUND), (8, [0.0, 0.0], 0.1, 0.1), (80, *SOUND)]
    runner, _, written = run(tmp_path, script, iters=32, action="rollback")
    assert runner.iter == 32
    assert written["state"] == "sound"
    assert written["rollbacks"] == 1


def test_a_single_bad_window_is_said_and_forgiven(tmp_path):
    script = [(8, *SOUND), (4, [0.1, 0.0], 0.5, 0.8), (80, *SOUND)]
    runner, _, written = run(tmp_path, script, action="stop")
    assert runner.iter == 24
    assert written["state"] == "sound"
    assert len(written["events"]) == 1


def test_a_warning_changes_nothing(tmp_path):
    script = [(8, *SOUND), (30, [0.0, 0.0], 0.1, 0.1)]
    runner, _, written = run(tmp_path, script, action="warn")
    assert runner.iter == 24
    assert "Only a warning was asked for" in written["events"][-1]["what"]


def test_silent_class_is_named_once_and_again_after_it_came_back(tmp_path):
    one = ([2.0, 0.0], 0.5, 0.8)
    script = [(4, *SOUND), (12, *one), (4, *SOUND), (20, *one)]
    _, _, written = run(
        tmp_path, script, iters=40, action="stop", silent_for=8, max_silent=0.5
    )
    said = [(e["iter"], e["what"]) for e in written["events"]]
    assert said == [
        (12, "class dog has had no pseudo label for 8 iterations"),
        (28, "class dog has had no pseudo label for 8 iterations"),
    ]


def test_class_that_never_came_is_no_alarm_and_most_classes_gone_is(tmp_path):
    never = [(40, [2.0, 0.0], 0.5, 0.8)]
    _, _, written = run(tmp_path / "a", never, silent_for=8)
    assert written["events"] == []
    assert written["windows"][-1]["silent"] == ["dog"]  # the page shows it
    gone = [(4, *SOUND), (40, [0.0, 1.0], 0.5, 0.8)]
    _, _, written = run(tmp_path / "b", gone, silent_for=8, max_silent=0.4)
    assert any("1 of 2 classes have no" in e["what"] for e in written["events"])


def test_many_silent_classes_are_one_line():
    hook = CollapseGuardHook(interval=4, silent_for=8)
    names = [f"c{n}" for n in range(80)]
    seen = dict(zip(names, [4] * 78 + [None, 12], strict=True))
    said = []
    hook._event = lambda runner, sentence: said.append(sentence)
    hook._say_silent(None, 12, seen)
    hook._say_silent(None, 16, seen)
    listed = ", ".join(f"c{n}" for n in range(8))
    assert said == [
        f"78 classes ({listed}, ...) have had no pseudo label for 8 iterations"
    ]


def test_no_object_at_all_stops_before_everything_becomes_background(tmp_path):
    runner, hook, written = run(tmp_path, [(40, [0.0, 0.0], 0.0, 0.0)], action="stop")
    assert runner.iter == 8
    assert "not one pseudo label" in written["events"][-1]["what"]
    assert "lower their threshold" in written["events"][-1]["what"]
    assert "raise the threshold" not in written["events"][-1]["what"]
    assert hook._good["iter"] == 0  # the weights it was given


def test_numbers_that_are_not_finite_are_an_alarm(tmp_path):
    script = [(4, *SOUND), (40, [2.0, 1.0], float("nan"), 0.8)]
    _, _, written = run(tmp_path, script, action="stop")
    assert written["state"] == "stopped"
    assert "not finite" in written["events"][0]["what"]


def test_student_is_lost_before_the_first_window_ends(tmp_path):
    """Nothing falls against a first window that is bad itself; 5 % is too little."""
    script = [(40, [2.0, 1.0], 0.5, 0.05)]
    runner, _, written = run(tmp_path, script, action="stop")
    assert runner.iter == 8
    said = written["events"][0]["what"]
    assert said == "teacher and student agree on 5 % of their boxes"
    assert written["events"][-1]["weights_of"] == 0


def test_an_agreement_on_few_boxes_says_nothing(tmp_path, monkeypatch):
    few = lambda self, data_batch: torch.tensor([0.0, 9.0])  # noqa: E731
    monkeypatch.setattr(ScriptedTeacher, "view_agreement", few)
    _, _, written = run(tmp_path, [(40, *SOUND)], action="stop")
    assert written["state"] == "sound"


@pytest.mark.parametrize(("nan_after", "good"), [(2, 0), (13, 8)])
def test_losses_that_stay_nan_bring_the_good_weights_back(tmp_path, nan_after, good):
    """Also before the first window has ended; nothing is compared with it."""
    runner, hook, written = run(
        tmp_path, [(40, *SOUND)], nan_after=nan_after, action="stop"
    )
    assert runner.iter == nan_after + 5
    assert written["state"] == "stopped"
    assert written["classes"] == ["cat", "dog"]
    (event,) = written["events"]
    assert "no loss or gradient was finite for 5 steps in a row" in event["what"]
    assert event["weights_of"] == good
    saved = weights_of(tmp_path, f"iter_{runner.iter}.pth")
    assert all(torch.equal(saved[k], hook._good["model"][k]) for k in saved)
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_nan_losses_roll_back_and_only_warn(tmp_path):
    runner, _, written = run(
        tmp_path / "back", [(40, *SOUND)], nan_after=5, action="rollback"
    )
    assert [e["weights_of"] for e in written["events"]] == [0, 0, 0]
    assert runner.iter == 20  # thrice five steps, then it stops
    with pytest.raises(UserError, match="for 10 steps in a row"):
        run(tmp_path / "warn", [(40, *SOUND)], nan_after=5, action="warn")


def test_explosion_of_boxes(tmp_path):
    script = [(4, *SOUND), (40, [40.0, 1.0], 0.5, 0.8)]
    _, _, written = run(tmp_path, script, action="stop")
    assert "have risen from 3.00 to 41.00" in written["events"][0]["what"]


def test_wrecked_before_the_first_window_ended(tmp_path):
    # the first window is what others are compared with, so it cannot look bad to them
    runner, hook, written = run(
        tmp_path, [(40, *SOUND)], action="stop", max_distance=1e-4
    )
    assert runner.iter == 8
    assert hook._good["iter"] == 0
    assert "hardly the same detector" in written["events"][0]["what"]


def test_resumed_run_judges_by_the_first_window_of_its_beginning(tmp_path):
    run(tmp_path, [(24, *SOUND)], iters=12)
    saved = tmp_path / "run" / "iter_12.pth"
    state = torch.load(saved, weights_only=True)[STATE_KEY]
    assert state["first"]["boxes"] == pytest.approx(3.0)
    low = [(40, [0.3, 0.3], 0.5, 0.8)]  # sound on its own, a fall against the start
    _, _, written = run(tmp_path, low, iters=24, resume=saved, action="stop")
    assert written["state"] == "stopped"
    assert written["windows"][0]["iter"] == 4


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Ends the process as ``kill -9`` does, at one moment of one iteration."""

    priority = "LOWEST"

    def __init__(self, iteration, moment):
        self.iteration = iteration

        def die(runner, *arguments, **more):
            if runner.iter >= self.iteration:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(self, moment, die)


MOMENTS = (
    "before_train_iter",
    "after_train_iter",
    "before_save_checkpoint",
    "before_val",
    "after_val_iter",
    "after_val",
    "after_train",
)
# sound, a collapse that rolls back at 16, sound, a collapse that stops at 32
FIRING = [(11, *SOUND), (6, [0.0, 0.1], 0.1, 0.1), (8, *SOUND), (30, [0.0, 0.1], 0, 0)]
FIRED = 32


def firing_run(folder, kill=None):
    cfg = Config.fromfile(str(write_config(folder)))
    cfg.model = dict(type="ScriptedTeacher", script=FIRING)
    cfg.work_dir = str(folder / "run")
    cfg.experiment_name = "firing"
    cfg.train_cfg.update(max_iters=40, val_interval=5)
    cfg.default_hooks.checkpoint.update(
        interval=3, max_keep_ckpts=2, save_best="accuracy", rule="greater"
    )
    guard = dict(action="rollback", max_rollbacks=1, interval=4, max_distance=9.0)
    cfg.custom_hooks = [
        dict(type="pld_mmdet.IterationSeedHook"),
        dict(type="pld_mmdet.PseudoBoxHook", interval=5),
        dict(type="pld_mmdet.CollapseGuardHook", **guard),
        dict(type="CurveHook"),
    ]
    if kill is not None:
        cfg.custom_hooks.append(
            dict(type="KillHook", iteration=kill[0], moment=kill[1])
        )
    latest = find_latest(cfg.work_dir)
    if latest is not None:
        cfg.resume, cfg.load_from = True, latest
    RUNNERS.build(cfg).train()


@HOOKS.register_module(force=True)
class CurveHook(Hook):
    """Writes what has been evaluated, and what the message hub holds at the end."""

    def after_train(self, runner):
        scalars = runner.message_hub.log_scalars
        curves = {
            name: buffer.data[0].tolist()
            for name, buffer in scalars.items()
            if "time" not in name
        }
        path = os.path.join(runner.work_dir, "curves.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(curves, file)


def left_behind(folder):
    """All that a run leaves: the last checkpoint, the best one, the guard, curves."""
    run = folder / "run"
    names = sorted(path.name for path in run.glob("*.pth"))
    last = torch.load(find_latest(run), weights_only=True)
    return dict(
        names=names,
        last=last,
        best=[torch.load(path, weights_only=True) for path in run.glob("best_*")],
        guard=json.loads((run / "guard.json").read_text()),
        curves=json.loads((run / "curves.json").read_text()),
    )


def test_kills_of_a_run_whose_guard_fires_change_nothing(tmp_path):
    """Also of one that is killed twice, and of one that the guard had stopped.

    PLD_KILLS=20 tries more of them.
    """
    (tmp_path / "whole").mkdir()
    assert forked(lambda: firing_run(tmp_path / "whole")) == 0
    whole = left_behind(tmp_path / "whole")
    assert whole["guard"]["state"] == "stopped"
    assert whole["guard"]["rollbacks"] == 1
    assert whole["last"]["meta"]["iter"] == FIRED
    assert whole["curves"]["val/accuracy"]  # the evaluations are compared, too
    rng = random.Random(0)
    for number in range(int(os.environ.get("PLD_KILLS", 4))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(1 + number % 2):
            kill = rng.randrange(2, FIRED + 1), rng.choice(MOMENTS)
            if forked(lambda: firing_run(folder, kill)) == 0:  # noqa: B023
                break  # there was no such moment any more
        assert forked(lambda: firing_run(folder)) == 0  # noqa: B023
        assert differences(whole, left_behind(folder)) == [], kill


def test_wrong_arguments_and_models_without_pseudo_labels(tmp_path):
    with pytest.raises(UserError, match="action='halt'"):
        CollapseGuardHook(action="halt")
    cfg = Config.fromfile(str(write_config(tmp_path)))
    cfg.work_dir = str(tmp_path / "run")
    cfg.custom_hooks = [dict(type="pld_mmdet.CollapseGuardHook")]
    with pytest.raises(UserError, match="ToyModel has none"):
        RUNNERS.build(cfg).train()


def test_gradients_of_the_weights_that_are_gone_are_gone_too():
    """A rollback between two halves of an accumulated step."""
    model = torch.nn.Linear(2, 1)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    hook = CollapseGuardHook()
    state = dict(model=model.state_dict(), optimizer=optimizer.state_dict())
    hook._good = copy.deepcopy(state)
    model(torch.ones(1, 2)).sum().backward()
    with torch.no_grad():
        model.weight.add_(3.0)
    hook._restore(SimpleNamespace(model=model, optim_wrapper=optimizer))
    assert torch.equal(model.weight, hook._good["model"]["weight"])
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
