"""Several optimizers in one run: members, shared settings, errors for people."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.optim.parts import PartsParallel
from pld_mmdet.errors import UserError


def model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"generator": nn.Linear(2, 2), "pool": nn.ModuleList([nn.Linear(2, 1)])}
    )


def config(**parts):
    return dict(
        constructor="pld_mmdet.PartsOptimConstructor",
        type="pld_mmdet.FiniteOptimWrapper",
        **parts,
    )


def sgd(lr, **more):
    return dict(optimizer=dict(type="SGD", lr=lr), **more)


def test_one_member_for_each_part():
    network = model()
    cfg = config(generator=sgd(0.5), **{"pool.0": sgd(0.1, clip_grad=dict(max_norm=1))})
    wrappers = build_optim_wrapper(network, cfg)
    assert list(wrappers.keys()) == ["generator", "pool.0"]
    assert all(isinstance(w, FiniteOptimWrapper) for w in wrappers.values())
    assert [g["lr"] for g in wrappers["generator"].param_groups] == [0.5]
    assert wrappers["pool.0"].clip_grad_kwargs == {"max_norm": 1}
    before = network["generator"].weight.clone()
    wrappers["pool.0"].update_params(network["pool"][0](torch.ones(1, 2)).sum())
    assert torch.equal(network["generator"].weight, before)
    # d sum / d bias is 1, the gradient (1, 1, 1) is clipped to length 1
    bias = network["pool"][0].bias - model()["pool"][0].bias
    assert bias.item() == pytest.approx(-0.1 / 3**0.5, rel=1e-4)


def test_finds_parts_behind_the_parallel_wrapper():
    network = PartsParallel(model())
    wrappers = build_optim_wrapper(network, config(generator=sgd(0.5)))
    own = {id(p) for g in wrappers["generator"].param_groups for p in g["params"]}
    assert own == {id(p) for p in network.module["generator"].parameters()}


def test_options_of_all_members():
    cfg = config(generator=sgd(0.5), paramwise_cfg=dict(bias_decay_mult=0.0))
    cfg["generator"]["optimizer"]["weight_decay"] = 0.1
    wrappers = build_optim_wrapper(model(), cfg)
    groups = wrappers["generator"].param_groups
    decay = {p.dim(): g["weight_decay"] for g in groups for p in g["params"]}
    assert (decay[2], decay[1]) == (0.1, 0.0)


def test_says_which_part_is_missing():
    with pytest.raises(UserError, match=r"optim_wrapper\.critic: ModuleDict has no"):
        build_optim_wrapper(model(), config(critic=sgd(0.1)))
    with pytest.raises(UserError, match="names no part"):
        build_optim_wrapper(model(), config())
