"""FedAvg's arithmetic, and rounds that go on with the same bits after SIGKILL."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from pld_mmdet.engine.loops.federated import FederatedLoop, average, draw_clients
from pld_mmdet.errors import UserError
from tests.engine.processes import ROOT, Tool
from tests.engine.state.test_resume import differences


def test_identical_clients_average_to_themselves():
    state = {"w": torch.randn(50), "n": torch.tensor(7)}
    mean = average([state] * 3, [0.2, 0.3, 0.5])
    assert torch.equal(mean["w"], state["w"])
    assert mean["n"].item() == 7


def test_shares_weigh():
    states = [{"w": torch.tensor([1.0]), "n": torch.tensor(v)} for v in (2, 5)]
    states[1]["w"] = torch.tensor([5.0])
    mean = average(states, [0.75, 0.25])
    assert mean["w"].item() == 2.0
    assert mean["n"].item() == 5


def test_clients_are_a_function_of_seed_and_round():
    rounds = [draw_clients(0, r, 10, 4) for r in range(200)]
    assert rounds == [draw_clients(0, r, 10, 4) for r in range(200)]
    assert rounds[:20] != [draw_clients(1, r, 10, 4) for r in range(20)]
    assert all(len(set(drawn)) == 4 and drawn == sorted(drawn) for drawn in rounds)
    counts = torch.tensor([c for drawn in rounds for c in drawn]).bincount(minlength=10)
    assert counts.min() > 50  # 80 expected


class Client(nn.Module):
    """Counts: each step adds the batch's value to one weight."""

    communicated = "part"

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(1, 1, bias=False)
        self.starts, self.branches = [], []

    def start_client(self, round_, client) -> None:
        self.starts.append((round_, client, self.part.weight.item()))

    def train_step(self, batch, optim_wrapper) -> dict:
        self.branches.append(batch["branch"])
        with torch.no_grad():
            self.part.weight += batch["inputs"].mean()
        return {"value": batch["inputs"].mean()}


class Shares(Dataset):
    """Client k has k + 1 samples, all of value k + 1."""

    metainfo = {}

    def __init__(self) -> None:
        def view(k):
            return [{"inputs": torch.tensor(k + 1.0)}] * (k + 1)

        self.clients = [{"a": view(k), "b": view(k)} for k in range(3)]
        self.sizes = [1, 2, 3]

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index):
        return self.clients[2]["a"][0]


def runner(model=None, data=None, world_size=1) -> SimpleNamespace:
    from mmengine.runner import Runner

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)

    def build(config, **kwargs):
        if isinstance(config, dict) and isinstance(config["dataset"], dict):
            config = {**config, "dataset": data or Shares()}
        return Runner.build_dataloader(config, **kwargs)

    return SimpleNamespace(
        model=model or Client(),
        seed=0,
        world_size=world_size,
        rank=0,
        val_loop=None,
        optim_wrapper=SimpleNamespace(optimizer=optimizer),
        build_dataloader=build,
        call_hook=lambda *args, **kwargs: None,
        _randomness_cfg={},
    )


LOADER = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler"),
    collate_fn=dict(type="default_collate"),
    dataset=dict(),
)
LOCAL = [dict(branch="a", steps=2), dict(branch="b", steps=1)]


def loop(run, **changes) -> FederatedLoop:
    settings = dict(max_iters=2, clients_per_round=3, local=LOCAL)
    return FederatedLoop(run, LOADER, **{**settings, **changes})


def test_rounds_by_hand():
    """Each client starts from the global weight; three steps add 3 (k + 1)."""
    model = Client()
    nn.init.zeros_(model.part.weight)
    loop(runner(model)).run()
    mean = sum(n * 3 * n for n in (1, 2, 3)) / 6  # weights n/6, sums 3 n
    assert model.part.weight.item() == pytest.approx(2 * mean)
    assert model.starts[:3] == [(0, k, 0.0) for k in range(3)]
    assert [s[:2] for s in model.starts[3:]] == [(1, k) for k in range(3)]
    assert all(s[2] == pytest.approx(mean) for s in model.starts[3:])
    assert model.branches == ["a", "a", "b"] * 6


class Recorder(Client):
    """Notes each step: round, client, branch, samples, a random number, the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.place, self.momenta = [], None, []

    def start_client(self, round_, client) -> None:
        self.place = round_, client

    def train_step(self, batch, optim_wrapper) -> dict:
        state = optim_wrapper.optimizer.state
        self.momenta.append(len(state))
        state["momentum"] = 1
        samples = batch["inputs"].tolist()
        noise = torch.rand(()).item()
        self.steps.append((*self.place, batch["branch"], samples, noise, self.training))
        return super().train_step(batch, optim_wrapper)


class Distinct(Shares):
    """Client k has 3 k + 4 samples: 100 k, 100 k + 1 and so on."""

    def __init__(self) -> None:
        def view(k, first):
            values = range(100 * k + first, 100 * k + first + 3 * k + 4)
            return [{"inputs": torch.tensor(float(v))} for v in values]

        self.clients = [{"a": view(k, 0), "b": view(k, 50)} for k in range(3)]
        self.sizes = [4, 7, 10]


def recorded(begin=0, rounds=3, **changes):
    """A run from a round on; the loop and what its model noted."""
    model = Recorder().eval()
    nn.init.zeros_(model.part.weight)
    made = loop(runner(model, Distinct()), max_iters=rounds, **changes)
    made._iter = begin
    made.runner.outputs = []
    made.runner.call_hook = lambda name, outputs=None, **_: (
        made.runner.outputs.append((name, outputs)) if outputs else None
    )
    made.run()
    return made, model


def test_a_round_is_the_same_whatever_was_before_and_whoever_else_is_drawn():
    _, whole = recorded()
    _, late = recorded(begin=2)
    assert late.steps == whole.steps[-9:]
    assert len({step[4] for step in whole.steps}) == len(whole.steps)  # new numbers
    _, few = recorded(clients_per_round=1)
    assert len(few.steps) == 9
    for step in few.steps:
        assert step in whole.steps
    first, second = (
        {n for step in whole.steps if step[:3] == (round_, 2, "a") for n in step[3]}
        for round_ in (0, 1)
    )
    assert not first & second  # 10 samples last for two rounds
    assert all(step[5] for step in whole.steps)  # in training mode


def test_clients_start_without_momentum_and_leave_none():
    made, model = recorded()
    assert model.momenta == [0, 1, 1] * 9
    assert not made.runner.optim_wrapper.optimizer.state


def test_shares_are_of_the_drawn_and_logs_are_means_over_steps():
    made, model = recorded(rounds=1, clients_per_round=2)
    drawn = draw_clients(0, 0, 3, 2)
    moved = dict.fromkeys(drawn, 0.0)
    means = []
    for _, client, _, samples, *_ in model.steps:
        means.append(sum(samples) / len(samples))
        moved[client] += means[-1]
    sizes = [made.sizes[c] for c in drawn]
    expected = sum(n * moved[c] for n, c in zip(sizes, drawn, strict=True)) / sum(sizes)
    assert model.part.weight.item() == pytest.approx(expected, rel=1e-5)
    ((name, outputs),) = made.runner.outputs
    assert name == "after_train_iter"
    assert outputs == {"value": pytest.approx(sum(means) / 6, rel=1e-5)}


@pytest.mark.parametrize(
    ("interval", "stop", "expected"),
    [(2, None, [2, 4, 5]), (None, None, [5]), (1, 3, [1, 2, 3])],
)
def test_rounds_are_evaluated_every_interval_and_at_the_end(interval, stop, expected):
    made = loop(runner(), max_iters=5, val_interval=interval)
    seen = []

    def evaluate():
        seen.append(made.iter)
        made.stop_training = made.iter == stop

    made.runner.val_loop = SimpleNamespace(run=evaluate)
    made.run()
    assert seen == expected
    assert made.epoch == 1


def test_refusals():
    stock = {**LOADER, "sampler": dict(type="DefaultSampler")}
    settings = dict(max_iters=1, clients_per_round=1, local=LOCAL)
    with pytest.raises(UserError, match="DefaultSampler cannot skip"):
        FederatedLoop(runner(), stock, **settings).run()
    with pytest.raises(UserError, match="clients_per_round=0 of 3"):
        loop(runner(), clients_per_round=0)
    with pytest.raises(UserError, match="one process, not on 2"):
        loop(runner(world_size=2))
    with pytest.raises(UserError, match="no branch 'c'"):
        loop(runner(), local=[dict(branch="c", steps=1)])
    with pytest.raises(UserError, match="clients_per_round=4 of 3"):
        loop(runner(), clients_per_round=4)
    with pytest.raises(UserError, match="list has no clients"):
        loop(runner(data=[1, 2]))
    silent = Client()
    silent.communicated = None
    with pytest.raises(UserError, match="Client does not say"):
        loop(runner(silent)).run()


CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=['tests.engine.toy'])
train_cfg = dict(max_iters=6, val_interval=4)
model = dict(warm_rounds=1, beta=0.2)
optim_wrapper = dict(optimizer=dict(momentum=0.9))
param_scheduler = [dict(type='MultiStepLR', milestones=[2, 4], by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
custom_hooks = [dict(type='pld_mmdet.IterationSeedHook'), dict(type='PauseHook')]
"""


def test_kill_and_resume_is_bit_exact(tmp_path):
    """Killed in round 5 of 6, gone on from round 4."""
    config = tmp_path / "federated.py"
    config.write_text(CONFIG.format(base=str(ROOT / "configs/fedlabel/toy.py")))
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    run = Tool("train", config, "--work-dir", killed, log=log, TOY_PAUSE=4)
    run.wait_for(killed / "paused")
    run.kill()
    assert not (killed / "iter_6.pth").exists()
    Tool("train", config, "--work-dir", killed, "--resume", log=log).finish()
    assert "resumed" in log.read_text()
    Tool("train", config, "--work-dir", whole, log=log).finish()
    a, b = (
        torch.load(folder / "iter_6.pth", weights_only=True)
        for folder in (whole, killed)
    )
    assert a["meta"]["iter"] == 6
    assert differences(a, b) == []
