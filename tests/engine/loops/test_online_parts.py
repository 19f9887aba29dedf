"""OnlineLoop's parts on counted batches: order, places, times, refusals."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from pld_mmdet.engine.loops.online import (
    STATE_KEY,
    OnlineLoop,
    _names,
    _require_same_images,
    _StateHook,
)
from pld_mmdet.errors import UserError


class Numbers(Dataset):
    """Image n is the number n."""

    metainfo = dict(classes=("one", "two"))

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw) -> dict:
        return dict(inputs=torch.tensor(float(draw)), index=int(draw))


class Learner(nn.Module):
    """Answers with what it has learnt from so far; ``learn`` answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.modes, self.support = [], [], None

    def learn(self, batch, optim_wrapper):
        self.seen.append(batch["index"].tolist())
        return {"value": 1.0}, [*self.seen]

    def train_step(self, batch, optim_wrapper):
        self.modes.append(self.training)
        return self.learn(batch, optim_wrapper)[0]

    def test_step(self, batch):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return [*self.seen]


class Kept:
    """An evaluator that keeps what it is given."""

    def __init__(self) -> None:
        self.given, self.images = [], None
        self.metrics = [SimpleNamespace(results=[]), SimpleNamespace(results=[])]

    def process(self, data_samples, data_batch):
        self.given.append((data_samples, data_batch["index"].tolist()))

    def evaluate(self, size):
        self.images = size
        return {"score": 0.5}


def loader(length: int, batch: int, **sampler) -> dict:
    sampler = {"shuffle": False, "infinite": True, **sampler}
    return dict(
        batch_size=batch,
        num_workers=0,
        sampler=dict(type="pld_mmdet.ResumableSampler", **sampler),
        collate_fn=dict(type="default_collate"),
        dataset=Numbers(length),
    )


@pytest.fixture
def make(tmp_path):
    def make(stream=(6, 2), score=None, world_size=1, **changes) -> OnlineLoop:
        calls, scalars = [], []
        runner = SimpleNamespace(
            world_size=world_size,
            rank=0,
            seed=5,
            model=Learner(),
            work_dir=str(tmp_path),
            optim_wrapper=None,
            calls=calls,
            scalars=scalars,
            build_dataloader=Runner.build_dataloader,
            build_evaluator=lambda config: config,
            visualizer=SimpleNamespace(
                dataset_meta=None,
                add_scalars=lambda values, step: scalars.append((step, values)),
            ),
            logger=SimpleNamespace(info=lambda text: calls.append(text[:7])),
            register_hook=lambda hook, priority: calls.append(priority),
            call_hook=lambda name, **kwargs: calls.append(name),
        )
        stream = Runner.build_dataloader(loader(*stream), seed=5)
        score = None if score is None else loader(*score)
        evaluator = changes.pop("evaluator", Kept())
        return OnlineLoop(runner, stream, score, evaluator, **changes)

    return make


ROUND = ["before_train_iter", "after_train_iter"]


def test_answers_of_the_step_are_scored_in_the_streams_order(make):
    loop = make()
    assert loop.runner.visualizer.dataset_meta is Numbers.metainfo
    assert (loop.iter, loop.max_iters, loop.epoch) == (0, 3, 0)
    loop.run()
    batches = [[0, 1], [2, 3], [4, 5]]
    given = loop.evaluator.given
    assert given == [(batches[: n + 1], batches[n]) for n in range(3)]
    assert loop.evaluator.images == 6
    start, end = ["before_train", "before_train_epoch"], ["after_train_epoch"]
    end += ["after_train", "Online:"]
    assert loop.runner.calls == ["NORMAL", *start, *ROUND * 3, *end]
    assert (loop.iter, loop.epoch) == (3, 1)


def test_clean_images_are_scored_in_evaluation_mode_after_the_step(make):
    loop = make(score=(6, 2))
    loop.run()
    assert loop.runner.model.modes == [True, (False, False)] * 3
    assert loop.runner.model.training
    assert [given[1] for given in loop.evaluator.given] == [[0, 1], [2, 3], [4, 5]]
    assert len(loop.evaluator.given[0][0]) == 1  # the step of its own batch only


def test_a_resumed_stream_goes_on_where_it_was(make):
    loop = make(score=(6, 2))
    loop._iter = 1
    loop.run()
    assert loop.runner.model.seen == [[2, 3], [4, 5]]
    assert [given[1] for given in loop.evaluator.given] == [[2, 3], [4, 5]]


def test_a_stopped_stream_has_no_score(make, tmp_path):
    loop = make()
    after = loop.runner.call_hook

    def stop(name, **kwargs):
        after(name, **kwargs)
        loop.stop_training = name == "after_train_iter"

    loop.runner.call_hook = stop
    loop.run()
    assert loop.iter == 1
    assert loop.evaluator.images is None
    assert not (tmp_path / "online.json").exists()


def test_times_are_medians_and_ninths_of_ten_for_one_image(make, tmp_path):
    loop = make()
    loop._iter = 3
    loop.seconds = dict(learn=[0.2, 0.8, 0.4], score=[0.1, 0.3, 0.101])
    metrics = loop._finish()
    expected = {
        "online/ms_learn": 200,
        "online/ms_learn_p90": 360,  # of 100, 200, 400
        "online/ms_score": 50.5,
        "online/ms_score_p90": 130.1,  # of 50, 50.5, 150
        "online/ms_image": 250.5,
        "online/ms_image_p90": 490.1,  # of 150, 250.5, 550
        "score": 0.5,
    }
    assert metrics == pytest.approx(expected)
    content = json.loads((tmp_path / "online.json").read_text())
    assert content["images"] == 6
    assert content["metrics"] == metrics
    assert loop.runner.scalars == [(3, metrics)]


def test_learning_and_scoring_are_timed_apart(make, monkeypatch):
    clock = iter([10.0, 13.0, 18.0])
    monkeypatch.setattr("pld_mmdet.engine.loops.online._now", lambda: next(clock))
    loop = make()
    batch = dict(index=torch.tensor([0, 1]))
    loop.run_iter(batch, batch)
    assert loop.seconds == dict(learn=[3.0], score=[5.0])


def test_the_support_set_is_drawn_once_in_order(make):
    loop, given = make(support_dataloader=loader(3, 1), merge_support=False), []

    def start(batches, classes):
        given.extend([b["index"] for b in batches])
        given.append(classes)

    loop.runner.model.start_stream = start
    loop.run()
    assert given == [[0], [1], [2], ("one", "two")]
    loop = make(support_dataloader=loader(3, 1), merge_support=False)
    loop.runner.model.start_stream, loop._iter = start, 1
    loop.run()
    assert len(given) == 4  # a resumed run has it in its buffers


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(world_size=2), "no meaning on 2 processes"),
        (dict(evaluator=None), "has no metric"),
        (dict(score=(5, 2)), "6 images in batches of 2, but 5 in batches of 2"),
        (dict(score=(8, 2)), "6 images in batches of 2, but 8 in batches of 2"),
        (dict(score=(6, 1)), "6 images in batches of 2, but 6 in batches of 1"),
        (dict(stream=(5, 2)), "5 test images do not divide into batches of 2"),
    ],
)
def test_streams_without_a_meaning_are_refused(make, changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)


def test_predictions_and_times_travel(make):
    one, two = make(), make()
    for metric, results in zip(one.evaluator.metrics, ([1, 2], [3]), strict=True):
        metric.results.extend(results)
    one.seconds = dict(learn=[1.0], score=[2.0])
    checkpoint = {}
    _StateHook(one).before_save_checkpoint(one.runner, checkpoint)
    one.evaluator.metrics[0].results.append(9)  # after the checkpoint
    for resume, expected in ((False, [[], []]), (True, [[1, 2], [3]])):
        two.runner._resume = resume
        _StateHook(two).after_load_checkpoint(two.runner, dict(checkpoint))
        assert [m.results for m in two.evaluator.metrics] == expected
    assert two.seconds == dict(learn=[1.0], score=[2.0])
    assert [*checkpoint] == [STATE_KEY]
    _StateHook(two).after_load_checkpoint(two.runner, {})
    assert two.seconds["score"] == [2.0]


def test_images_are_told_apart_by_path_or_index():
    assert _names(dict(index=torch.tensor([3, 1]))) == [3, 1]
    samples = [dict(img_path="a"), dict(img_path="b"), object()]
    assert _names(dict(data_samples=samples)) == ["a", "b", None]
    branches = dict(weak=samples[:2], strong=[])
    assert _names(dict(data_samples=branches)) == ["a", "b"]
    ours, other = samples[:2], samples[:1] * 2
    for first, second, name in ((ours, other, "b"), (other, ours, "a")):
        with pytest.raises(UserError, match=f"Image 1 of a batch is .* as {name}, sco"):
            _require_same_images(dict(data_samples=first), dict(data_samples=second))
