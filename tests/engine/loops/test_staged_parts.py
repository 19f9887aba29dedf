"""StagedLoop's parts on counted batches: which stage, which data, whose optimizer."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from torch import nn

from pld_mmdet.engine.loops.staged import StagedLoop, _check, _filled, _ResumeHook
from pld_mmdet.errors import UserError
from tests.engine.loops.test_online_parts import Numbers

LENGTHS = dict(think=0, first=3, label=0, sort=0, last=4, close=0)


class Learner(nn.Module):
    """Notes what happens to it."""

    def __init__(self, calls: list) -> None:
        super().__init__()
        self.calls = calls

    def enter_stage(self, name):
        self.calls.append(("enter", name))

    def start_stage(self, name, loader, folder):
        size = None if loader is None else len(loader.dataset)
        self.calls.append(("start", name, size, folder.name, folder.is_dir()))
        self.eval()

    def train_step(self, batch, optim_wrapper):
        self.calls.append((batch["index"].tolist(), optim_wrapper.name, self.training))
        return {}


def loader(length: int, batch: int = 2, infinite: bool = True) -> dict:
    return dict(
        batch_size=batch,
        num_workers=0,
        sampler=dict(
            type="pld_mmdet.ResumableSampler", shuffle=False, infinite=infinite
        ),
        collate_fn=dict(type="default_collate"),
        dataset=Numbers(length),
    )


@pytest.fixture
def make(tmp_path):
    def make(stages=None, val_interval=None, **entries) -> StagedLoop:
        calls = []

        def optimizer(config):
            def begin(model, done, steps):
                calls.append(("count", done, steps))

            return SimpleNamespace(name=config["name"], initialize_count_status=begin)

        cfg = ConfigDict(optim_wrapper=dict(name="common"), param_scheduler=None)
        runner = SimpleNamespace(
            cfg=cfg,
            model=Learner(calls),
            seed=3,
            rank=0,
            world_size=1,
            work_dir=str(tmp_path),
            calls=calls,
            hooks=[],
            val_loop=None,
            _randomness_cfg={},
            build_dataloader=Runner.build_dataloader,
            build_optim_wrapper=optimizer,
            build_param_scheduler=lambda config: config,
            logger=SimpleNamespace(info=lambda text: None),
            register_hook=lambda hook, priority: runner.hooks.append((hook, priority)),
            call_hook=lambda *args, **kwargs: None,
        )
        if stages is None:
            stages = [
                dict(name=name, max_iters=length, **entries.get(name, {}))
                for name, length in LENGTHS.items()
            ]
        return StagedLoop(runner, loader(5), stages, val_interval)

    return make


def test_the_earliest_stage_that_begins_at_an_iteration_is_entered(make):
    loop = make()
    assert [loop._stage_at(n) for n in range(9)] == [0, 1, 1, 2, 4, 4, 4, 6, 6]
    spans = []
    for number in range(6):
        loop._entered = number
        spans.append(loop.span())
    assert spans == [(0, 0), (0, 3), (3, 3), (3, 3), (3, 7), (7, 7)]
    loop._entered = None
    assert loop.span() == (0, 0)


@pytest.mark.parametrize(
    ("done", "stage"),
    [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4), (6, 4), (7, 4), (8, 5), (99, 5)],
)
def test_a_checkpoint_has_the_optimizer_of_the_stage_that_ended_with_it(
    make, done, stage
):
    loop = make()
    ((hook, priority),) = loop.runner.hooks
    assert isinstance(hook, _ResumeHook)
    assert priority == "VERY_HIGH"
    for resume, meta, entered in (
        (False, dict(iter=done), None),
        (True, {}, None),
        (True, dict(iter=done), stage),
    ):
        loop.runner._resume = resume
        hook.after_load_checkpoint(loop.runner, dict(meta=meta))
        assert loop._entered == entered


def test_stages_that_train_are_known_to_the_model_before_the_run(make, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Learner, "check_stage", lambda _, name: asked.append(name), raising=False
    )
    make()
    assert asked == ["first", "last"]
    loop = make([dict(name="a", max_iters=1), dict(name="b", max_iters=2)])
    assert loop.max_iters == loop.val_interval == 3


def own(name: str, **schedule) -> dict:
    return dict(optim_wrapper=dict(name=name), param_scheduler=schedule or None)


def test_stages_have_their_own_data_work_and_optimizer(make):
    loop = make(
        first=dict(dataloader=loader(4, infinite=False), **own("a")),
        label=dict(work_dataloader=loader(9)),
    )
    loop.run()
    parts = [("enter", "think"), ("start", "think", None, "00_think", True)]
    parts += [("enter", "first"), ("count", 0, 7)]
    parts += [("start", "first", None, "01_first", True)]
    # four images in batches of two: the third batch is the next pass
    parts += [([0, 1], "a", True), ([2, 3], "a", True), ([0, 1], "a", True)]
    parts += [("enter", "label"), ("start", "label", 9, "02_label", True)]
    parts += [("enter", "sort"), ("start", "sort", None, "03_sort", True)]
    parts += [("enter", "last"), ("count", 3, 7)]
    parts += [("start", "last", None, "04_last", True)]
    stream = [[0, 1], [2, 3], [4, 0], [1, 2]]
    parts += [(batch, "common", True) for batch in stream]
    parts += [("enter", "close"), ("start", "close", None, "05_close", True)]
    assert loop.runner.calls == parts
    assert (loop.iter, loop.max_iters, loop.epoch) == (7, 7, 1)


def test_a_resumed_stage_skips_what_it_has_seen_and_starts_nothing(make):
    loop = make()
    loop._iter = 4
    loop.run()
    begin = [("enter", "last"), ("count", 4, 7)]
    assert loop.runner.calls[:2] == begin
    batches = [call[0] for call in loop.runner.calls[2:5]]
    assert batches == [[2, 3], [4, 0], [1, 2]]
    assert loop.runner.calls[5:] == [
        ("enter", "close"),
        ("start", "close", None, "05_close", True),
    ]
    loop.enter(5)  # once is enough
    assert len(loop.runner.calls) == 7


@pytest.mark.parametrize(
    ("interval", "stop", "expected"),
    [(None, None, [7]), (2, None, [2, 4, 6, 7]), (4, None, [4, 7]), (1, 2, [1, 2])],
)
def test_the_whole_runs_iterations_say_when_to_evaluate(make, interval, stop, expected):
    loop = make(val_interval=interval)
    seen = []

    def evaluate():
        seen.append(loop.iter)
        loop.stop_training = loop.iter == stop

    loop.runner.val_loop = SimpleNamespace(run=evaluate)
    loop.run()
    assert seen == expected
    assert loop.iter == expected[-1]


def test_a_schedule_over_iterations_ends_with_its_stage(make):
    loop = make()
    scheduled = loop._schedulers(
        [
            dict(type="A", by_epoch=False),
            dict(type="B", by_epoch=False, end=2),
            dict(type="C"),
        ],
        4,
    )
    assert [one.get("end") for one in scheduled] == [4, 2, None]
    one = dict(type="A", by_epoch=False)
    assert loop._schedulers(one, 4)["end"] == 4
    assert "end" not in one  # the config stays as it was written
    assert loop._schedulers(None, 4) is None


def test_the_folder_stands_in_all_texts():
    config = dict(a=["{folder}/x", 3], b=("no", dict(c="{folder}")))
    expected = dict(a=["/w/1/x", 3], b=("no", dict(c="/w/1")))
    assert _filled(config, Path("/w/1")) == expected
    assert config["a"][0] == "{folder}/x"


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "need names"),
        ([dict(max_iters=1)], "need names"),
        ([dict(name="a", max_iters=1)] * 2, "each another one"),
        ([dict(name="a", max_iters=None)], "max_iters=None"),
        ([dict(name="a", max_iters=1), dict(name="b", max_iters=-1)], "b has"),
        ([dict(name="a", max_iters=0), dict(name="b", max_iters=0)], "No stage has"),
        ([dict(name="a", max_iters=1, lr=1)], r"unknown entries: \['lr'\]"),
    ],
)
def test_stages_without_a_meaning_are_refused(stages, words):
    with pytest.raises(UserError, match=words):
        _check(stages)
