"""The EMA hook: unit, moment, ramp, first copy, counter."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pld_mmdet.distill.teachers import Averaged
from pld_mmdet.engine.hooks.teacher_ema import STATE_KEY, TeacherEMAHook, len_epoch
from pld_mmdet.errors import UserError


class Pair(nn.Module):
    def __init__(self, teacher=0.0, student=1.0):
        super().__init__()
        self.teacher = nn.Linear(1, 1, bias=False)
        self.student = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.teacher.weight, teacher)
        nn.init.constant_(self.student.weight, student)

    def value(self):
        return self.teacher.weight.item()


def runner_with(model, images=10, batch=4, resume=False):
    loader = SimpleNamespace(batch_size=batch, dataset=range(images))
    return SimpleNamespace(
        model=model,
        iter=0,
        world_size=1,
        train_dataloader=loader,
        _resume=resume,
        hooks=[],
        cfg={},
    )


def drive(hook, runner, steps, start=0):
    """What a loop does: the student moves by 1 in each step."""
    trace = []
    for runner.iter in range(start, start + steps):
        hook.before_train_iter(runner, runner.iter)
        with torch.no_grad():
            runner.model.student.weight.add_(1.0)
        hook.after_train_iter(runner, runner.iter)
        trace.append(runner.model.value())
    return trace


def test_first_action_is_an_exact_copy():
    runner = runner_with(Pair(teacher=5.0, student=1.25))
    TeacherEMAHook(keep=0.9).before_train(runner)
    assert runner.model.value() == 1.25
    runner.iter = 3  # a resumed run: both networks come from the checkpoint
    runner.model.teacher.weight.data.fill_(7.0)
    TeacherEMAHook(keep=0.9).before_train(runner)
    assert runner.model.value() == 7.0


def test_it_says_that_mmengine_scaled_the_learning_rate_alone():
    runner, said = runner_with(Pair()), []
    runner.logger = SimpleNamespace(warning=said.append)
    TeacherEMAHook(keep=0.97).before_train(runner)
    assert said == []
    runner.cfg = dict(auto_scale_lr=dict(enable=True, base_batch_size=8))
    TeacherEMAHook(keep=0.97).before_train(runner)
    assert "learning rate only" in said[0]
    assert "keep=0.97" in said[0]
    assert "8 images" in said[0]


def test_every_iteration_after_the_step():
    trace = drive(TeacherEMAHook(keep=0.5), runner_with(Pair(0.0, 0.0)), 2)
    assert trace == [0.5, 1.25]


def test_moves_a_teacher_in_its_wrapper():
    model = Pair(teacher=5.0, student=1.25)
    model.teacher = Averaged(model.student)
    model.value = lambda: model.teacher.network.weight.item()
    hook, runner = TeacherEMAHook(keep=0.75), runner_with(model)
    hook.before_train(runner)
    assert drive(hook, runner, 2) == [1.5, 1.9375]


def test_before_the_step_skips_iteration_zero():
    trace = drive(TeacherEMAHook(keep=0.5, moment="before"), runner_with(Pair(0, 0)), 2)
    assert trace == [0.0, 0.5]  # the teacher saw the student of step 0 only


def test_per_epoch_the_teacher_stands_still_in_between():
    hook = TeacherEMAHook(keep=0.75, unit="epoch")
    runner = runner_with(Pair(0.0, 0.0), images=10, batch=4)  # 3 iterations an epoch
    assert len_epoch(runner) == 3
    assert drive(hook, runner, 6) == [0.0, 0.0, 0.75, 0.75, 0.75, 0.75**2 + 1.5]
    assert hook.updates == 2


def test_interval():
    assert drive(TeacherEMAHook(keep=0.0, interval=2), runner_with(Pair(0, 0)), 4) == [
        0.0,
        2.0,
        2.0,
        4.0,
    ]


def test_counter_survives_a_checkpoint():
    whole = TeacherEMAHook(keep=0.99, warm_up=0)
    first, second = (TeacherEMAHook(keep=0.99, warm_up=0) for _ in range(2))
    expected = drive(whole, runner_with(Pair(0.0, 0.0)), 10)
    runner = runner_with(Pair(0.0, 0.0), resume=True)
    got = drive(first, runner, 5)
    checkpoint = {}
    first.before_save_checkpoint(runner, checkpoint)
    assert checkpoint[STATE_KEY] == dict(updates=5)
    second.after_load_checkpoint(runner, checkpoint)
    got += drive(second, runner, 5, start=5)
    assert got == expected


def test_ramp_before_the_step_counts_the_first_copy():
    hook = TeacherEMAHook(keep=0.99, warm_up=0, moment="before")
    runner = runner_with(Pair(5.0, 0.0))
    hook.before_train(runner)
    # m_1 = 1/2 of students 0 and 1; m_2 = 2/3 of that and of student 2
    trace = drive(hook, runner, 3)
    assert trace == pytest.approx([0.0, 0.5, 1.0])


def test_counter_is_not_taken_from_initial_weights():
    hook = TeacherEMAHook()
    hook.after_load_checkpoint(
        runner_with(Pair(), resume=False), {STATE_KEY: dict(updates=5)}
    )
    assert hook.updates == 0


@pytest.mark.parametrize(
    "wrong",
    [dict(unit="step"), dict(moment="never"), dict(buffers="skip"), dict(keep=2)],
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        TeacherEMAHook(**wrong)


def test_a_model_without_teacher_is_a_clear_error():
    with pytest.raises(UserError, match=r"\.student and \.teacher; Linear"):
        TeacherEMAHook().before_train(runner_with(nn.Linear(1, 1)))


@pytest.mark.parametrize("moment", ["after", "before"])
def test_a_checkpoint_without_a_counter_goes_on_with_the_ramp(moment):
    whole = TeacherEMAHook(moment=moment, warm_up=2, interval=2)
    runner = runner_with(Pair())
    whole.before_train(runner)
    drive(whole, runner, 7)
    fresh = TeacherEMAHook(moment=moment, warm_up=2, interval=2)
    runner.iter = 7
    fresh.before_train(runner)
    assert fresh.updates == whole.updates == {"after": 3, "before": 4}[moment]


def drive_accumulated(hook, images, steps, size):
    """As :func:`drive`; the student moves once in ``size`` iterations and at the end.

    Returns:
        The teacher after each iteration.
    """
    runner, trace = runner_with(Pair(0.0, 0.0), images=images), []
    runner.optim_wrapper = SimpleNamespace(_accumulative_counts=size)
    runner.max_iters = steps
    for runner.iter in range(steps):
        hook.before_train_iter(runner, runner.iter)
        if (runner.iter + 1) % size == 0 or runner.iter + 1 == steps:
            with torch.no_grad():
                runner.model.student.weight.add_(1.0)
        hook.after_train_iter(runner, runner.iter)
        trace.append(runner.model.value())
    return trace


ACCUMULATED = {
    "after": (dict(), [0, 0, 0.5, 0.5, 0.5, 1.25, 2.125]),
    "before": (dict(moment="before"), [0, 0, 0, 0.5, 0.5, 0.5, 1.25]),
    "every second": (dict(interval=2), [0, 0, 0, 0, 0, 1, 1]),
    "every second before": (dict(moment="before", interval=2), [0] * 6 + [1]),
}


@pytest.mark.parametrize("case", ACCUMULATED)
def test_accumulated_iterations_are_one_update(case):
    changes, expected = ACCUMULATED[case]
    hook = TeacherEMAHook(keep=0.5, **changes)
    assert drive_accumulated(hook, 10, 7, 3) == expected


def test_an_epoch_of_accumulated_steps_ends_with_the_step_that_fills_it():
    """20 images in batches of 4 are 5 iterations, of which 2 make a step: 3 steps."""
    hook = TeacherEMAHook(keep=0.0, unit="epoch")
    assert drive_accumulated(hook, 20, 14, 2) == [0] * 5 + [3] * 6 + [6] * 3
    hook = TeacherEMAHook(keep=0.0, unit="epoch", interval=2)
    assert drive_accumulated(hook, 20, 14, 2) == [0] * 11 + [6] * 3


@pytest.mark.parametrize(("moment", "updates"), [("after", 2), ("before", 3)])
def test_a_lost_counter_follows_from_the_steps(moment, updates):
    hook, runner = TeacherEMAHook(moment=moment, interval=3), runner_with(Pair())
    runner.optim_wrapper = SimpleNamespace(_accumulative_counts=3)
    runner.iter = 26  # 8 steps
    hook.before_train(runner)
    assert hook.updates == updates


@pytest.mark.parametrize(
    ("buffers", "mean"), [("average", 5), ("copy", 8), ("keep", 4)]
)
def test_buffers_follow_their_policy_after_the_first_copy(buffers, mean):
    model = Pair()
    model.student, model.teacher = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    model.student.running_mean.fill_(4.0)
    hook = TeacherEMAHook(keep=0.75, buffers=buffers)
    hook.before_train(runner_with(model))
    assert model.teacher.running_mean.item() == 4
    model.student.running_mean.fill_(8.0)
    model.student.weight.data.fill_(5.0)
    hook.update(model)
    assert model.teacher.running_mean.item() == mean
    assert model.teacher.weight.item() == 2
    assert model.student.running_mean.item() == 8


def test_a_network_that_is_replaced_is_followed():
    model, hook = Pair(0.0, 4.0), TeacherEMAHook(keep=0.5)
    hook.update(model)
    old, model.teacher = model.teacher, nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.teacher.weight)
    nn.init.ones_(model.student.weight)
    hook.update(model)
    assert (old.weight.item(), model.value()) == (2.0, 0.5)
    assert hook.updates == 2


def test_the_ends_of_the_ranges_are_allowed_and_no_more():
    for keep in (0.0, 1.0):
        assert TeacherEMAHook(keep=keep, interval=1, warm_up=0).keep == keep
    for wrong in (dict(keep=-0.01), dict(interval=0), dict(warm_up=-1)):
        with pytest.raises(UserError, match="out of range"):
            TeacherEMAHook(**wrong)
    hook = TeacherEMAHook(keep=0.75, warm_up=2)
    found = [hook.keep_at(n) for n in (0, 1, 3, 9, 10)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 0.75])  # 1 - 3 / (n + 3)
    assert TeacherEMAHook(keep=0.75).keep_at(0) == 0.75
