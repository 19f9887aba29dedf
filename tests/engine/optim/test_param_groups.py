"""Merged groups: few of them, the same steps."""

import logging

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from pld_mmdet.engine.optim.groups import check_custom_keys
from pld_mmdet.errors import UserError

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


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.backbone = nn.ModuleDict({"layer1": nn.Linear(2, 3)})
        self.rpn_head = nn.Linear(3, 2)


def custom(*names):
    return dict(paramwise_cfg=dict(custom_keys={n: dict(lr_mult=2) for n in names}))


def test_custom_keys_that_match_no_parameter(caplog):
    model, logger = Named(), logging.getLogger("keys")
    good = custom("backbone", "backbone.layer1", ".scale", "rpn_head.weight", "weig")
    check_custom_keys(model, good, logger)
    check_custom_keys(model, {}, logger)
    assert not caplog.records
    for key, near in (
        ("backbon", None),  # part of a name
        ("bacbone", "backbone"),
        ("backbone.layer2", "backbone.layer1"),
        ("rpn_haed", "rpn_head"),
    ):
        wrappers = custom(key), {"critic": custom(key)}
        for wrapper in wrappers if near else ():
            with pytest.raises(UserError, match=f"custom_keys.{key}: no par") as caught:
                check_custom_keys(model, wrapper, logger)
            assert caught.value.fix == f"Did you mean {near}?"
        if not near:
            check_custom_keys(model, custom(key), logger)
    assert not caplog.records
    check_custom_keys(model, custom("absolute_pos_embed"), logger)
    assert "absolute_pos_embed changes nothing: no parameter" in caplog.text
