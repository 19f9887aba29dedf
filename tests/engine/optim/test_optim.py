"""Steps that are not finite leave no trace but a count, and end a hopeless run."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from pld_mmdet.engine.optim.finite import FiniteAmpOptimWrapper, FiniteOptimWrapper
from pld_mmdet.engine.optim.lars import LARS
from pld_mmdet.errors import UserError

NAN = float("nan")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def wrapper(model, kind=FiniteOptimWrapper, **arguments):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return kind(optimizer=optimizer, **arguments)


def step(model, optim, scale=1.0, seed=0):
    """One training step; ``scale`` NaN poisons the input, so also BN's statistics."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) * scale
    with optim.optim_context(model):
        loss = model(x).float().pow(2).mean()
    optim.update_params(loss)


def state(model, optim):
    return copy.deepcopy((model.state_dict(), optim.optimizer.state_dict()["state"]))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_nan_loss_changes_nothing_and_is_counted():
    model = network()
    optim = wrapper(model)
    step(model, optim)
    before = state(model, optim)
    step(model, optim, NAN)
    assert optim.skipped_steps == 1
    assert same(state(model, optim), before)
    assert torch.isfinite(model[1].running_mean).all()
    assert all(p.grad is None for p in model.parameters())
    logged = MessageHub.get_current_instance().get_scalar("train/skipped_steps")
    assert logged.current() == 1
    step(model, optim)
    assert not same(state(model, optim), before)


def test_good_steps_are_those_of_the_stock_wrapper():
    from mmengine.optim import OptimWrapper

    models = network(), network()
    optims = wrapper(models[0]), wrapper(models[1], OptimWrapper)
    for seed in range(5):
        for model, optim in zip(models, optims, strict=True):
            step(model, optim, seed=seed)
    assert same(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize("clip", [None, {"max_norm": 1.0}])
def test_infinite_gradient_of_a_finite_loss_is_skipped(clip):
    model = network()
    optim = wrapper(model, clip_grad=clip)
    before = state(model, optim)
    loss = sum(p.sum() for p in model.parameters()) * 0
    poison = model[0].weight.sum() * 0
    poison.register_hook(lambda g: g * float("inf"))
    optim.update_params(loss + poison)
    assert optim.skipped_steps == 1
    assert same(state(model, optim), before)


def test_stops_after_too_many_in_a_row():
    model = network()
    optim = wrapper(model, max_skipped_in_a_row=3)
    hub = MessageHub.get_current_instance()
    hub.update_info("iter", 41)
    hub.update_info("last_ckpt", "work_dirs/a/iter_40.pth")
    before = state(model, optim)
    for scale in (NAN, NAN, 1, NAN, NAN):  # a good step in between starts anew
        step(model, optim, scale)
    with pytest.raises(UserError) as caught:
        step(model, optim, NAN)
    hub.pop_info("last_ckpt")
    assert "NaN or infinite for 3 steps in a row" in caught.value.what
    assert "iteration 42" in caught.value.what
    assert "iter_40.pth" in caught.value.what
    assert "learning rate" in caught.value.fix
    assert optim.skipped_steps == 5
    assert not same(state(model, optim), before)


def test_nan_in_the_weights_stops_too():
    model = network()
    nn.init.constant_(model[2].bias, NAN)
    optim = wrapper(model, max_skipped_in_a_row=2)
    step(model, optim)
    with pytest.raises(UserError, match="initial weights"):
        step(model, optim)


def test_counters_survive_a_checkpoint():
    model = network()
    optim = wrapper(model)
    step(model, optim)
    step(model, optim, NAN)
    saved = copy.deepcopy(optim.state_dict())
    other = wrapper(network())
    other.load_state_dict(saved)
    assert (other.skipped_steps, other._in_a_row) == (1, 1)
    stock = saved.copy()
    stock.pop("skipped")
    other.load_state_dict(stock)
    assert other.skipped_steps == 0
    from mmengine.optim import OptimWrapper

    wrapper(network(), OptimWrapper).load_state_dict(saved)  # leaves no one behind


def test_accumulation_equals_the_stock_wrapper():
    from mmengine.optim import OptimWrapper

    models = network(), network()
    optims = [
        wrapper(m, k, accumulative_counts=3)
        for m, k in zip(models, (FiniteOptimWrapper, OptimWrapper), strict=True)
    ]
    for model, optim in zip(models, optims, strict=True):
        optim.initialize_count_status(model, 0, 7)  # a last window of one
        for seed in range(7):
            step(model, optim, seed=seed)
    assert same(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_bad_part_spoils_its_window_only(bad):
    model = network()
    optim = wrapper(model, accumulative_counts=3)
    optim.initialize_count_status(model, 0, 6)
    before = [p.clone() for p in model.parameters()]
    for part in range(3):
        step(model, optim, NAN if part == bad else 1.0, seed=part)
    assert all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )
    assert optim.skipped_steps == 1
    for part in range(3):
        step(model, optim, seed=part)
    assert not torch.equal(before[0], model[0].weight)
    assert optim.skipped_steps == 1


@pytest.mark.parametrize("older", [False, True])
def test_bf16_without_a_gpu(older, monkeypatch):
    if older:  # torch before 2.3
        monkeypatch.delattr(torch.amp, "GradScaler")
    model = network()
    optim = wrapper(model, FiniteAmpOptimWrapper, dtype="bfloat16")
    seen = []
    model[0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    before = state(model, optim)
    step(model, optim, NAN)
    assert same(state(model, optim), before)
    step(model, optim)
    assert seen == [torch.bfloat16] * 2
    assert optim.skipped_steps == 1
    saved = copy.deepcopy(optim.state_dict())
    wrapper(network(), FiniteAmpOptimWrapper, dtype="bfloat16").load_state_dict(saved)


def test_fp16_without_a_gpu_is_a_sentence():
    with pytest.raises(UserError, match="--amp bf16"):
        wrapper(network(), FiniteAmpOptimWrapper, dtype="float16")


def test_fp16_overflow_counts_but_does_not_stop_the_run(monkeypatch):
    """With a real scaler, on the CPU: its overflows are normal until it is below 1."""
    from mmengine.optim import AmpOptimWrapper

    model = network()
    optim = wrapper(model, FiniteAmpOptimWrapper, dtype="bfloat16")
    optim.max_skipped_in_a_row = 2
    optim.loss_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    assert isinstance(optim, AmpOptimWrapper)
    model[0].weight.register_hook(lambda g: g * float("inf"))
    before = state(model, optim)
    step(model, optim)  # 4 -> 2
    step(model, optim)  # 2 -> 1
    assert optim.skipped_steps == 2
    step(model, optim)  # 1 -> 0.5: no scale left to blame
    with pytest.raises(UserError, match="gradient was NaN"):
        step(model, optim)
    assert same(state(model, optim)[0]["0.weight"], before[0]["0.weight"])


def test_lars_by_hand():
    """w = (3, 4), g = (0.6, 0), decay 0.1: g' = (0.9, 0.4); norms 5 and sqrt(0.97)."""
    w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    b = torch.nn.Parameter(torch.tensor([2.0]))
    lars = LARS([w, b], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    w.grad, b.grad = torch.tensor([[0.6, 0.0]]), torch.tensor([0.4])
    lars.step()
    rate = 0.5 * 0.01 * 5 / 0.97**0.5
    expected = torch.tensor([[3 - rate * 0.9, 4 - rate * 0.4]])
    assert torch.allclose(w, expected, atol=1e-6)
    assert b.item() == pytest.approx(2 - 0.5 * 0.4)  # neither decay nor factor
    lars.step()
    assert b.item() == pytest.approx(1.8 - (0.9 * 0.2 + 0.2))
    w.grad = torch.zeros(1, 2)
    w.data.zero_()
    before = lars.state[w]["momentum_buffer"].clone()
    lars.step()  # no direction: the momentum alone
    assert torch.allclose(w, -0.9 * before)
    with pytest.raises(UserError, match="lr=-1"):
        LARS([w], lr=-1)
