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
