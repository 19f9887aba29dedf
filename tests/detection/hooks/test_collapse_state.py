"""What the collapse guard adds up, holds and puts back; without a run."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from pld_mmdet.detection.hooks import CollapseGuardHook, collapse_guard
from pld_mmdet.detection.hooks.collapse_guard import (
    STATE_KEY,
    _class_names,
    _distance,
)
from pld_mmdet.errors import UserError
from tests.detection.helpers import on_processes
from tests.engine.state.test_resume import differences


def runner_of(model, **more):
    return SimpleNamespace(model=model, iter=0, optim_wrapper=None, **more)


def test_distance_from_the_source_by_hand():
    """Moved by a length of 5 from weights of length 13; also from nothing."""
    teacher = nn.ParameterList([torch.tensor([4.0, 6.0]), torch.tensor([14.0, 4.0])])
    source = [torch.tensor([3.0, 4.0]), torch.tensor([12.0, 0.0])]
    assert _distance(teacher, source) == pytest.approx(5 / 13)
    assert _distance(teacher, [0 * s for s in source]) > 1e6


STEPS = (  # of two processes: boxes of each class, sums of scores
    (([2.0, 1.0], [1.5, 0.6, 3.0]), ([0.0, 1.0], [0.4, 0.2, 1.0])),
    (([4.0, 0.0], [2.0, 1.0, 4.0]), ([2.0, 3.0], [1.0, 0.4, 3.0])),
)
AGREEING = ([2.0, 5.0], [3.0, 8.0])


def test_a_window_is_the_mean_of_its_steps_on_all_processes(monkeypatch):
    def work(rank):
        hook, model = CollapseGuardHook(interval=50), SimpleNamespace()
        hook._names = ["cat", "dog"]
        model.view_agreement = lambda batch: torch.tensor(AGREEING[rank])
        model.pseudo_counts, runner = {}, runner_of(model)
        hook.after_train_iter(runner, 0)  # no pseudo label was asked for
        for counts, scores in STEPS[rank]:
            model.pseudo_counts = dict(high=torch.tensor(counts))
            model.pseudo_scores = torch.tensor(scores)
            hook.after_train_iter(runner, 0)
            runner.iter += 1
        return hook._measure(runner, model, {}), (hook._sums, hook._steps)

    for window, left in on_processes(monkeypatch, collapse_guard, 2, work):
        assert window["iter"] == 3
        assert window["classes"] == [2.0, 1.25]
        assert window["boxes"] == 3.25
        assert window["score"] == pytest.approx(4.9 / 11)  # detections of all scores
        assert window["entropy"] == pytest.approx(0.2)
        assert window["agreement"] == pytest.approx(5 / 13)
        assert window["compared"] == 13
        assert left == (None, 0)


def test_a_model_without_scores_and_without_a_box_that_can_agree():
    hook = CollapseGuardHook()
    model = SimpleNamespace(pseudo_counts=dict(high=torch.tensor([3.0])))
    model.view_agreement = lambda batch: torch.zeros(2)
    hook._names = ["cat"]
    hook.after_train_iter(runner_of(model), 0)
    window = hook._measure(runner_of(model), model, {})
    assert (window["score"], window["entropy"], window["agreement"]) == (0, 0, 0)
    assert window["boxes"] == 3
    hook.after_train_iter(runner_of(model), 0)
    assert "agreement" not in hook._measure(runner_of(model), model, None)


def test_what_is_put_back_stays_as_it_was_and_rates_only_fall():
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    groups = [dict(params=[model.weight], lr=0.05), dict(params=[model.bias], lr=0.02)]
    wrapper = OptimWrapper(torch.optim.SGD(groups, momentum=0.9))
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    hook = CollapseGuardHook(action="rollback")

    def step():
        wrapper.update_params(model(torch.ones(3, 2)).square().mean())

    def rates():
        return [group["lr"] for group in wrapper.optimizer.param_groups]

    step()
    hook._remember(runner, 3)
    assert hook._good is hook._newest
    kept = copy.deepcopy(hook._good)
    step()
    hook._remember(runner, 5)
    assert (hook._good["iter"], hook._newest["iter"]) == (3, 5)
    for group, rate in zip(wrapper.optimizer.param_groups, (0.01, 0.04), strict=True):
        group["lr"] = rate
    hook._restore(runner)
    assert rates() == [0.01, 0.02]
    assert torch.equal(model.weight, kept["model"]["weight"])
    step()
    assert differences(kept, hook._good) == []  # momentum and weights went on
    hook._remember(runner, 9)
    assert (hook._good["iter"], hook._newest["iter"]) == (3, 9)
    silent = CollapseGuardHook(action="warn")
    silent._remember(runner, 3)
    assert silent._newest is None


def test_only_a_resumed_run_takes_what_the_checkpoint_knows():
    hook, checkpoint = CollapseGuardHook(), {}
    hook.stopped, hook._alarms, hook._warned = True, 3, {"dog", "cat"}
    hook.windows, hook.events = [dict(iter=4)], [dict(iter=2)]
    hook.before_save_checkpoint(None, checkpoint)
    hook.windows[0]["iter"] = 9  # after it was saved
    for resumed in (False, True):
        other = CollapseGuardHook()
        other.after_load_checkpoint(SimpleNamespace(_resume=resumed), checkpoint)
        assert other.stopped == resumed
        assert other._alarms == 3 * resumed
        assert other.windows == [dict(iter=4)] * resumed
        assert other.events == [dict(iter=2)] * resumed
        assert other._warned == ({"dog", "cat"} if resumed else set())
    other = CollapseGuardHook()
    other.after_load_checkpoint(SimpleNamespace(_resume=True), {})
    assert other.windows == []
    del checkpoint[STATE_KEY]["stopped"], checkpoint[STATE_KEY]["alarms"]  # older
    other.after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
    assert (other.stopped, other._alarms) == (False, 0)


def test_classes_without_names_have_numbers():
    for meta, names in (
        (dict(classes=("cat", "dog")), ["cat", "dog"]),
        (dict(classes=("cat", "dog", "hen")), ["0", "1"]),
        (None, ["0", "1"]),
    ):
        loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=meta))
        assert _class_names(SimpleNamespace(train_dataloader=loader), 2) == names
    loader = SimpleNamespace(dataset=[])
    assert _class_names(SimpleNamespace(train_dataloader=loader), 1) == ["0"]


def test_the_sentence_about_silent_classes_says_for_how_long_all_have_been():
    hook, said = CollapseGuardHook(silent_for=6), []
    hook._event = lambda runner, sentence: said.append(sentence)
    seen = {f"c{n}": 4 for n in range(8)}
    seen["c3"] = 1
    hook._say_silent(None, 10, seen)
    names = ", ".join(seen)  # eight are listed
    assert said == [f"8 classes ({names}) have had no pseudo label for 6 iterations"]


def test_the_written_state_tells_alarms_from_a_stop(tmp_path):
    hook = CollapseGuardHook(action="stop")
    for alarms, stopped, word in (
        (0, False, "sound"),
        (1, False, "alarm"),
        (0, True, "stopped"),
        (2, True, "stopped"),
    ):
        hook._alarms, hook.stopped = alarms, stopped
        hook._write(SimpleNamespace(work_dir=tmp_path))
        written = json.loads((tmp_path / "guard.json").read_text())
        assert (written["state"], written["action"]) == (word, "stop")


@pytest.mark.parametrize("wrong", [dict(interval=0), dict(patience=0)])
def test_numbers_below_one_are_refused(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}=0"):
        CollapseGuardHook(**wrong)
    assert CollapseGuardHook(interval=1, patience=1).interval == 1
