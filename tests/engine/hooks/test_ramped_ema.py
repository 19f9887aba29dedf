"""Soft Teacher's EMA: the ramp's numbers, the stop, nothing to store."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pld_mmdet.engine.hooks import RampedEMAHook
from pld_mmdet.errors import UserError


class Pair(nn.Module):
    def __init__(self, teacher=7.0):
        super().__init__()
        for name, value in dict(
            teacher=teacher, student=0.0, polish_teacher=9.0, polish_student=1.0
        ).items():
            setattr(self, name, nn.Linear(1, 1, bias=False))
            nn.init.constant_(getattr(self, name).weight, value)


def drive(hook, model, steps, start=0):
    """What a loop does: each step adds 1 to the student."""
    runner = SimpleNamespace(model=model, iter=start)
    hook.before_train(runner)
    trace = []
    for runner.iter in range(start, start + steps):
        hook.before_train_iter(runner, runner.iter)
        trace.append(model.teacher.weight.item())
        with torch.no_grad():
            model.student.weight.add_(1.0)
    return trace


def test_the_ramp_of_the_release():
    hook = RampedEMAHook(keep=0.999, warm_up=0)
    expected = {0: 0.0, 1: 0.5, 2: 2 / 3, 9: 0.9, 99: 0.99, 998: 0.998999, 999: 0.999}
    for iteration, keep in expected.items():
        assert hook.keep_at(iteration) == pytest.approx(keep, abs=1e-6)
    assert hook.keep_at(5000) == 0.999
    polish = RampedEMAHook(keep=0.99, warm_up=100)
    expected = {0: 0.0, 1: 0.009804, 100: 0.497512, 9999: 0.99}
    for iteration, keep in expected.items():
        assert polish.keep_at(iteration) == pytest.approx(keep, abs=1e-6)


def test_teacher_is_the_running_mean_of_all_students_so_far():
    # students seen before iterations 0..3 are 0, 1, 2, 3
    assert drive(RampedEMAHook(), Pair(), 4) == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_resuming_needs_no_stored_state():
    whole = drive(RampedEMAHook(keep=0.6), Pair(), 9)
    model = Pair()
    got = drive(RampedEMAHook(keep=0.6), model, 4)
    got += drive(RampedEMAHook(keep=0.6), model, 5, start=4)
    assert got == whole


def test_two_pairs_keep_their_counters_apart():
    """Beside each other in one checkpoint; a resumed ramp goes on."""
    polish = dict(teacher="polish_teacher", student="polish_student")
    hooks = [RampedEMAHook(), RampedEMAHook(warm_up=3, **polish)]
    drive(hooks[0], Pair(), 4)
    drive(hooks[1], Pair(), 6)
    checkpoint = {}
    for hook in hooks:
        hook.before_save_checkpoint(None, checkpoint)
    assert checkpoint["pld_teacher_ema"] == dict(updates=4, updates_polish_teacher=6)
    again = RampedEMAHook(**polish)
    again.after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
    assert again.updates == 6
    again.before_train(SimpleNamespace(model=Pair(), iter=99))
    assert again.updates == 6  # what was stored, not what the iteration says


def test_frozen_after_the_stop():
    trace = drive(RampedEMAHook(stop_after=3), Pair(), 8)
    assert trace[:4] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert trace[4:] == [trace[3]] * 4


def test_another_pair_leaves_the_first_alone():
    model = Pair()
    hook = RampedEMAHook(teacher="polish_teacher", student="polish_student")
    assert drive(hook, model, 2) == [7.0, 7.0]
    assert model.polish_teacher.weight.item() == 1.0


def test_a_loaded_teacher_can_be_kept():
    assert drive(RampedEMAHook(keep=0.5, warm_up=None), Pair(), 2) == [0.0, 0.5]
    hook = RampedEMAHook(keep=0.5, warm_up=None, copy_at_start=False)
    assert drive(hook, Pair(8.0), 2) == [4.0, 2.5]
    with pytest.raises(UserError, match="copy_at_start=False has no effect"):
        RampedEMAHook(copy_at_start=False)


def test_wrong_arguments_and_models_are_named():
    with pytest.raises(UserError, match="out of range"):
        RampedEMAHook(keep=1.5)
    with pytest.raises(UserError, match="buffers='skip'"):
        RampedEMAHook(buffers="skip")
    runner = SimpleNamespace(model=nn.Linear(1, 1), iter=0)
    with pytest.raises(UserError, match="Linear has no teacher and no student"):
        RampedEMAHook().before_train(runner)
