"""ProgressHook: every loop, accumulation, stages, resume, evaluation."""

from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.engine.hooks.progress import STATE_KEY, ProgressHook
from pld_mmdet.engine.loops.federated import FederatedLoop
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.engine.run.steps import accumulation
from pld_mmdet.errors import UserError
from tests.engine.loops.test_staged import STAGES
from tests.engine.toy import CONFIG, EPOCHS, ITERS


@MODELS.register_module(force=True)
class ProgressToy(Method):
    """Remembers where it was at each loss; the learner inside shares the place."""

    def __init__(self, inner: bool = True, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.net = nn.Linear(6, 2)
        self.learner = ProgressToy(inner=False) if inner else None
        self.seen = []

    def loss(self, inputs, data_samples):
        self.seen.append(astuple(self.progress))
        assert self.learner.progress == self.progress
        return {"loss": nn.functional.cross_entropy(self.net(inputs), data_samples)}

    def predict(self, inputs, data_samples):
        self.seen.append(("predict", self.progress.step, self.progress.stage))
        logits = self.net(inputs)
        return [(a, b) for a, b in zip(logits.argmax(1), data_samples, strict=True)]


def config(folder: Path, loop: str, infinite: bool = True, **changes) -> Config:
    text = CONFIG.format(workers=0, infinite=infinite, loop=loop)
    text = text.replace("['tests.engine.toy']", "['tests.engine.hooks.test_progress']")
    path = folder / "toy.py"
    path.write_text(text.replace("dict(type='ToyModel')", "dict(type='ProgressToy')"))
    cfg = Config.fromfile(path)
    work = {"work_dir": str(folder / "run"), "log_level": "WARNING"}
    cfg.merge_from_dict({**work, **changes})
    return cfg


def train(cfg: Config):
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def losses(runner) -> list[tuple]:
    return [seen for seen in runner.model.seen if seen[0] != "predict"]


def test_iterations_that_are_accumulated_are_one_step(tmp_path):
    """12 iterations of 4 out of 24 samples; 5 are one step, the last step has 2."""
    cfg = config(tmp_path, ITERS, **{"optim_wrapper.accumulative_counts": 5})
    runner = train(cfg)
    assert losses(runner) == [
        (i // 5, 3, i // 6, 2, "distill", 5)  # the fields of Progress, in order
        for i in range(12)
    ]
    predicted = [s for s in runner.model.seen if s[0] == "predict"]
    # after iterations 5, 10 and 12
    assert [s[1] for s in predicted[::3]] == [1, 2, 3]
    assert runner.model.progress.share == 1.0


def test_a_run_that_goes_on_is_where_it_was(tmp_path):
    whole = train(config(tmp_path, ITERS))
    cfg = config(tmp_path, ITERS)
    cfg.load_from, cfg.resume = str(tmp_path / "run/iter_6.pth"), True
    again = train(cfg)
    assert losses(again) == losses(whole)[6:]
    saved = torch.load(tmp_path / "run/iter_6.pth", weights_only=True)
    assert saved[STATE_KEY]["step"] == 6
    assert not any("progress" in name for name in saved["state_dict"])


def test_epochs_of_an_epoch_loop(tmp_path):
    runner = train(config(tmp_path, EPOCHS, infinite=False))
    assert [seen[:4] for seen in losses(runner)] == [
        (i, 12, i // 6, 2) for i in range(12)
    ]


def test_each_stage_counts_for_itself(tmp_path):
    """5 and 9 iterations, 2 to a step: the middle of a step may be a boundary."""
    stages = STAGES.replace("model = dict(type='StagedToy')\n", "")
    stages = stages.replace(
        "custom_imports = dict(imports=['tests.engine.loops.test_staged'])\n", ""
    )
    stages = stages.replace("FiniteOptimWrapper',", "FiniteOptimWrapper', **TWO,")
    stages = "TWO = dict(accumulative_counts=2)\n" + stages
    cfg = config(tmp_path, stages.replace("_delete_=True, ", ""))
    cfg.optim_wrapper.accumulative_counts = 2
    runner = train(cfg)
    first = [(i // 2, 2, i // 6, 1, "warm", 2) for i in range(5)]
    # begins with the second half of a step; 10 samples: three iterations a pass
    steps = [0, 1, 1, 2, 2, 3, 3, 4, 4]
    second = [(step, 5, i // 3, 3, "main", 2) for i, step in enumerate(steps)]
    assert losses(runner) == first + second
    cfg.load_from, cfg.resume = str(tmp_path / "run/iter_9.pth"), True
    cfg.work_dir = str(tmp_path / "again")
    assert losses(train(cfg)) == second[4:]


def test_an_evaluation_knows_the_stage_of_the_weights(tmp_path):
    train(config(tmp_path, ITERS))
    path = tmp_path / "run/iter_12.pth"
    saved = torch.load(path, weights_only=True)
    saved[STATE_KEY] |= {"stage": "finetune"}
    torch.save(saved, path)
    cfg = config(tmp_path, ITERS, load_from=str(path))
    runner = RUNNERS.build(cfg)
    runner.test()
    assert runner.model.seen[0] == ("predict", 12, "finetune")
    # another training starts from these weights, not from their place
    assert losses(train(cfg))[0] == (0, 12, 0, 2, "distill", 1)
    del saved[STATE_KEY]  # a checkpoint from before
    torch.save(saved, path)
    runner = RUNNERS.build(cfg)
    runner.test()
    assert runner.model.seen[0] == ("predict", 0, "distill")


def test_a_round_is_a_step():
    """Whatever the clients accumulate inside of it."""
    loop = FederatedLoop.__new__(FederatedLoop)
    model = Method.__new__(Method)
    nn.Module.__init__(model)
    model.progress = Progress()
    run = SimpleNamespace(
        model=model,
        train_loop=loop,
        _train_loop=loop,
        optim_wrapper=SimpleNamespace(_accumulative_counts=4),
        iter=6,
        max_iters=9,
    )
    hook = ProgressHook()
    hook.before_train(run)
    hook.before_train_iter(run, 6)
    assert accumulation(run) == 1
    assert astuple(model.progress) == (6, 9, 6, 9, "distill", 1)
    assert model.progress.share == pytest.approx(2 / 3)
    hook.after_train_iter(run, 6)
    assert model.progress.step == 7


def test_data_without_an_end_is_one_pass():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield 0

    model = nn.Linear(1, 1)
    model.progress = Progress()
    loop = SimpleNamespace(dataloader=DataLoader(Endless()))
    run = SimpleNamespace(model=model, train_loop=loop, iter=6, max_iters=9)
    hook = ProgressHook()
    hook.before_train(run)
    # an evaluation that a resumed run makes up for comes before the next step
    assert astuple(model.progress) == (6, 9, 0, 1, "distill", 1)
    run.iter, loop.span = 8, lambda: (3, 9)
    hook.before_train_iter(run, 8)
    assert astuple(model.progress) == (5, 6, 0, 1, "distill", 1)
    hook.after_train_iter(run, 8)
    assert astuple(model.progress) == (6, 6, 1, 1, "distill", 1)
    run.iter, loop.span = 3, lambda: (4, 4)  # a stage without iterations has a share
    hook.after_train_iter(run, 3)
    assert model.progress.share == 0


class Staged(nn.Module):
    """A model whose first stage has a name, with others inside."""

    def __init__(self, stage, **inner):
        super().__init__()
        if stage:
            self.default_stage = stage
        self.progress = Progress(5, 9, 2, 3, "old", 4)
        for name, module in inner.items():
            setattr(self, name, module)


def test_every_model_begins_at_its_own_stage_and_knows_nothing_else():
    bar = nn.Identity()
    bar.progress = 0.7  # of a progress bar
    model = Staged("warm", inner=Staged("cold", plain=Staged(None)), bar=bar)
    hook, run = ProgressHook(), SimpleNamespace(model=model, iter=0)
    checkpoint = {}
    hook.before_save_checkpoint(run, checkpoint)
    assert checkpoint == {}  # nobody was told anything
    run.train_loop = SimpleNamespace()
    hook.before_train(run)
    places = model.progress, model.inner.progress, model.inner.plain.progress
    assert places == (Progress(stage="warm"), Progress(stage="cold"), Progress())
    hook.before_save_checkpoint(run, checkpoint)
    assert checkpoint[STATE_KEY]["stage"] == "warm"
    for place in places:
        place.step = place.steps = 7
    hook.before_stage(run, "main")
    assert {astuple(place) for place in places} == {astuple(Progress(stage="main"))}
    assert bar.progress == 0.7


def test_a_model_that_asks_for_nothing_needs_no_length_of_the_run():
    """With several optimizers there may be none."""
    run = SimpleNamespace(model=nn.Identity(), iter=4, train_loop=None)
    hook = ProgressHook()
    hook.before_train(run)
    hook.after_train_iter(run, 4)
    assert not hook._told


def test_who_was_told_nothing_says_so():
    with pytest.raises(UserError, match="how long the run is"):
        _ = Progress().share
