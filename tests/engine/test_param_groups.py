"""Merged groups: few of them, the same steps."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import pld_mmdet  # noqa: F401  registers the constructor

PARAMWISE = dict(
    norm_decay_mult=0.0, bias_lr_mult=2.0, custom_keys={"3": dict(lr_mult=0.1)}
)


def trained(paramwise, **constructor):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    config = dict(
        **constructor,
        optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.1),
        paramwise_cfg=dict(paramwise),
    )
    wrapper = build_optim_wrapper(model, config)
    for _ in range(4):
        wrapper.update_params(model(torch.randn(5, 3)).square().mean())
    return model, wrapper.optimizer.param_groups


def test_the_same_weights_from_fewer_groups():
    plain, each = trained(PARAMWISE)
    merged, few = trained(PARAMWISE, constructor="pld_mmdet.MergedGroups")
    assert len(each) == 8  # one a parameter
    options = [(group["lr"], group["weight_decay"]) for group in few]
    assert len(few) == 4  # weights, biases, the norm, the last layer
    assert sum(len(group["params"]) for group in few) == 8
    assert (0.01, 0.0) in options  # the norm, without decay
    assert any(lr == pytest.approx(0.001) for lr, _ in options)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, merged.state_dict()[name]), name


def test_groups_that_differ_stay_apart():
    """Every parameter keeps the rate and decay that mmengine gave it."""
    (plain, each), (merged, few) = (
        trained(PARAMWISE, **constructor)
        for constructor in ({}, {"constructor": "pld_mmdet.MergedGroups"})
    )

    def settings(model, groups):
        names = {id(p): name for name, p in model.named_parameters()}
        return {
            names[id(p)]: (group["lr"], group["weight_decay"])
            for group in groups
            for p in group["params"]
        }

    assert settings(plain, each) == settings(merged, few)
    assert len(few) == len(set(settings(merged, few).values()))


def test_without_options_there_is_one_group():
    _, groups = trained({}, constructor="pld_mmdet.MergedGroups")
    assert len(groups) == 1
