"""Federated rounds: clients learn one after the other, the server averages them."""

import copy
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn

from pld_mmdet.engine.data.randomness import seed_everything
from pld_mmdet.engine.loops.counted import CountedLoop
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError
from pld_mmdet.registry import LOOPS

_STREAM = (
    4  # apart from the streams of engine/data/seeding.py, hooks/seed.py and scored_val
)


def draw_clients(seed: int, round_: int, clients: int, count: int) -> list[int]:
    """The clients of a round: a function of (seed, round), sorted.

    Args:
        seed: Of the run.
        round_: Number of the round, from 0.
        clients: How many there are.
        count: How many take part.
    """
    generator = np.random.default_rng((seed, _STREAM, round_))
    return sorted(generator.permutation(clients)[:count].tolist())


def average(states: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """``sum_k shares_k states_k`` (FedAvg, McMahan et al. 2017), in double precision.

    Integer tensors (batch counters) cannot be averaged: the largest is taken.

    Args:
        states: State dicts with the same entries.
        shares: Of each, summing to 1.
    """
    mean = {}
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if first.is_floating_point():
            pairs = zip(values, shares, strict=True)
            mean[name] = sum(v.double() * s for v, s in pairs).to(first)
        else:
            mean[name] = torch.stack(values).amax(0)
    return mean


@LOOPS.register_module()
class FederatedLoop(CountedLoop):
    """FedAvg: draw clients, let each learn from the global model, average them.

    An iteration of hooks, logs and checkpoints is one round. In a round, for each
    client drawn: the part of the model that ``model.communicated`` names gets the
    global weights, the optimizer's state is emptied, ``model.start_client(round,
    client)`` is called if there is one, and the local steps are taken with batches
    that carry their branch's name as ``branch``. Then the communicated part becomes
    the average of all clients' parts, weighted by their numbers of samples.

    The data set holds the clients: ``clients``, a list of dicts of data sets by branch
    (views of one data set), and ``sizes``, their numbers of samples. Batch size,
    sampler and collation of ``train_dataloader`` hold for each client and branch.

    Everything is counted: clients are drawn from (seed, round), the client's random
    numbers from (seed, round, client), its samples from where they would be had it
    taken part in all rounds. So a run that goes on after round r has the same bits as
    one that was never stopped, and a client is the same whichever others were drawn.
    The learning rate may be scheduled over rounds (``by_epoch=False``).

    Args:
        runner: The runner.
        dataloader: The config's ``train_dataloader``.
        max_iters: Rounds.
        clients_per_round: Clients drawn in each.
        local: Steps of a client, in order: ``dict(branch=..., steps=...)`` each.
        val_interval: Evaluate after this many rounds, and at the end [only at the end].

    Raises:
        UserError: Several processes, a data set without clients, a branch that it
            does not have, or more clients in a round than there are.
    """

    evaluates_every_interval = True  # told to a resumed run
    counts_rounds = True  # for what counts steps: engine.steps and ProgressHook

    def __init__(
        self,
        runner,
        dataloader,
        max_iters: int,
        clients_per_round: int,
        local: list[dict],
        val_interval: int | None = None,
    ) -> None:
        self._loader_config = copy.deepcopy(dataloader)
        super().__init__(runner, dataloader)
        data = self.dataloader.dataset
        clients = getattr(data, "clients", None)
        if runner.world_size > 1:
            raise UserError(
                f"FederatedLoop simulates its clients in one process, not on "
                f"{runner.world_size}.",
                "Start it with python tools/train.py on one device.",
            )
        if clients is None or not isinstance(self._loader_config, dict):
            raise UserError(
                f"{type(data).__name__} has no clients.",
                "Set train_dataloader.dataset to a data set with `clients` and "
                "`sizes`, e.g. pld_mmdet.Federation.",
            )
        for part in local:
            if any(part["branch"] not in client for client in clients):
                raise UserError(
                    f"The clients have no branch {part['branch']!r}.",
                    f"Their branches are {', '.join(clients[0])}.",
                )
        if not 1 <= clients_per_round <= len(clients):
            raise UserError(
                f"clients_per_round={clients_per_round} of {len(clients)} clients.",
                "Draw at least one, and no more than there are.",
            )
        self.clients, self.sizes = clients, data.sizes
        self.clients_per_round, self.local = clients_per_round, local
        self._max_iters = max_iters
        self.val_interval = val_interval or max_iters
        self._loaders: dict[tuple[int, str], object] = {}

    def run(self) -> nn.Module:
        """Go through the rounds from where the run stands."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        while self._iter < self._max_iters and not self.stop_training:
            self.run_round()
            if runner.val_loop is not None and (
                self._iter % self.val_interval == 0 or self._iter == self._max_iters
            ):
                runner.val_loop.run()
        self._epoch = 1
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def run_round(self) -> None:
        """One round: draw, learn, average."""
        runner, number = self.runner, self._iter
        runner.call_hook("before_train_iter", batch_idx=number, data_batch=None)
        drawn = draw_clients(
            runner.seed or 0, number, len(self.clients), self.clients_per_round
        )
        part = self._communicated
        start = {name: value.clone() for name, value in part.state_dict().items()}
        states, values = [], defaultdict(list)
        for client in drawn:
            part.load_state_dict(start)
            self._run_client(client, values)
            state = part.state_dict()
            states.append({name: value.clone() for name, value in state.items()})
        total = sum(self.sizes[client] for client in drawn)
        shares = [self.sizes[client] / total for client in drawn]
        part.load_state_dict(average(states, shares))
        outputs = {name: sum(found) / len(found) for name, found in values.items()}
        runner.call_hook(
            "after_train_iter", batch_idx=number, data_batch=None, outputs=outputs
        )
        self._iter += 1

    def _run_client(self, client: int, values: dict[str, list]) -> None:
        runner, model = self.runner, self._model
        seed_everything(runner.seed or 0, _STREAM, self._iter, client)
        wrapper = runner.optim_wrapper
        wrapper.optimizer.state.clear()  # a client has no momentum of another one
        model.train()
        if hasattr(model, "start_client"):
            model.start_client(self._iter, client)
        for part in self.local:
            branch, steps = part["branch"], part["steps"]
            loader = self._loader(client, branch)
            loader.sampler.skip(self._iter * steps * loader.batch_size)
            batches = iter(loader)
            for _ in range(steps):
                batch = {**next(batches), "branch": branch}
                output = runner.model.train_step(batch, optim_wrapper=wrapper)
                for name, value in output.items():
                    values[name].append(float(torch.as_tensor(value).detach()))
        wrapper.optimizer.state.clear()  # nor does a checkpoint hold any

    def _loader(self, client: int, branch: str):
        """The client's loader, built when it is drawn for the first time."""
        key = client, branch
        if key not in self._loaders:
            config = copy.deepcopy(self._loader_config)
            config["dataset"] = self.clients[client][branch]
            loader = self.runner.build_dataloader(
                config, seed=self.runner.seed, diff_rank_seed=False
            )
            if not hasattr(loader.sampler, "skip"):
                raise UserError(
                    f"A client's sampler {type(loader.sampler).__name__} cannot skip, "
                    "so that rounds could not be resumed.",
                    "Set sampler=dict(type='pld_mmdet.ResumableSampler').",
                )
            self._loaders[key] = loader
        return self._loaders[key]

    @property
    def _model(self) -> nn.Module:
        return unwrapped(self.runner.model)

    @property
    def _communicated(self) -> nn.Module:
        model = self._model
        name = getattr(model, "communicated", None)
        if name is None:
            raise UserError(
                f"{type(model).__name__} does not say what its clients send.",
                "Give it an attribute `communicated`: the name of that module.",
            )
        return getattr(model, name)
