"""PseudoBoxHook: means over steps, names of curves, what a resumed run has."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pld_mmdet.detection.hooks import pseudo_boxes
from pld_mmdet.detection.hooks.pseudo_boxes import STATE_KEY, PseudoBoxHook
from tests.detection.helpers import on_processes


def runner(classes=("cat", "dog"), resume=True):
    written = []
    data = SimpleNamespace(metainfo=dict(classes=classes) if classes else {})
    return SimpleNamespace(
        model=nn.DataParallel(nn.Identity()),  # a wrapper, as with several GPUs
        iter=0,
        written=written,
        _resume=resume,
        train_dataloader=SimpleNamespace(dataset=data),
        visualizer=SimpleNamespace(
            add_scalars=lambda values, step: written.append((step, values))
        ),
    )


def drive(hook, run, counts, start=0):
    for run.iter, found in enumerate(counts, start):
        run.model.module.pseudo_counts = {k: torch.tensor(v) for k, v in found.items()}
        hook.after_train_iter(run, run.iter)


HIGH = [[1.0, 0.0], [2.0, 5.0], [6.0, 1.0], [4.0, 0.5]]


def test_means_over_an_interval_start_again_after_it():
    hook, run = PseudoBoxHook(interval=3), runner()
    drive(hook, run, [dict(high=h, all=[8.0]) for h in HIGH] + [{}, {}])
    (first, values), (second, after) = run.written
    assert (first, second) == (3, 6)
    assert values == {
        "pseudo/high": 5.0,
        "pseudo/high/cat": 3.0,
        "pseudo/high/dog": 2.0,
        "pseudo/all": 8.0,
        "pseudo/all/0": 8.0,  # a kind that is not counted by class
    }
    expected = {"high": 1.5, "high/cat": 4 / 3, "high/dog": 0.5 / 3}
    assert {k: after[f"pseudo/{k}"] for k in expected} == pytest.approx(expected)


def test_what_a_step_counted_is_not_changed():
    hook, run = PseudoBoxHook(), runner()
    counts = torch.tensor([1.0, 2.0])
    run.model.module.pseudo_counts = dict(high=counts)
    for run.iter in range(2):
        hook.after_train_iter(run, run.iter)
    assert counts.tolist() == [1.0, 2.0]
    assert run.written == []


@pytest.mark.parametrize("resume", [True, False])
def test_a_resumed_run_writes_the_same_mean(resume):
    counts = [dict(high=h) for h in HIGH]
    whole, run = PseudoBoxHook(interval=4), runner()
    drive(whole, run, counts)
    first, second, checkpoint = PseudoBoxHook(4), PseudoBoxHook(4), {}
    drive(first, runner(), counts[:2])
    first.before_save_checkpoint(run, checkpoint)
    assert checkpoint[STATE_KEY]["steps"] == 2
    drive(first, runner(), [dict(other=[9.0])], start=2)
    assert {*checkpoint[STATE_KEY]["sums"]} == {"high"}  # what is saved stays
    again = runner(resume=resume)
    second.after_load_checkpoint(again, checkpoint)
    second.after_load_checkpoint(again, {})
    drive(second, again, counts[2:], start=2)
    assert (again.written == run.written) == resume


def test_without_names_classes_have_numbers():
    hook, run = PseudoBoxHook(interval=1), runner(classes=None)
    drive(hook, run, [dict(high=[1.0, 3.0])])
    assert run.written == [
        (1, {"pseudo/high": 4.0, "pseudo/high/0": 1.0, "pseudo/high/1": 3.0})
    ]


def test_a_run_that_lost_its_counts_takes_the_mean_of_the_steps_it_saw():
    hook, run = PseudoBoxHook(interval=3), runner()
    drive(hook, run, [dict(high=h) for h in HIGH[:2]], start=1)
    ((step, values),) = run.written
    assert step == 3
    assert values["pseudo/high/cat"] == 1.5


@pytest.mark.parametrize("kind", [torch.float, torch.int])
def test_all_processes_count_and_their_own_counts_stay(monkeypatch, kind):
    """3 and 4 boxes of cats, 2 and 7 of dogs."""
    counts = [torch.tensor([3, 2], dtype=kind), torch.tensor([4, 7], dtype=kind)]

    def work(rank):
        hook, run = PseudoBoxHook(interval=1), runner()
        run.model.module.pseudo_counts = dict(high=counts[rank])
        hook.after_train_iter(run, 0)
        return run.written

    means = {"pseudo/high": 8.0, "pseudo/high/cat": 3.5, "pseudo/high/dog": 4.5}
    assert on_processes(monkeypatch, pseudo_boxes, 2, work) == [[(1, means)]] * 2
    assert [found.tolist() for found in counts] == [[3, 2], [4, 7]]
