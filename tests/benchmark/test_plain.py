"""Each method's step and its plain loop move the same weights by the same amount."""

from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from pld_mmdet.benchmark.cases import CASES, function_of
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.catalogue import entries

STEPS = [name for name, case in CASES.items() if case.module.startswith("tests.")]


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def floats(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {k: v.double().clone() for k, v in state.items() if v.is_floating_point()}


def test_every_method_outside_detection_has_a_case():
    begun = [e for e in entries() if e.is_begun() and e.family != "detection"]
    lacking = [e for e in begun if f"{e.stem}_step" not in STEPS]
    # a method in work says so in methods.csv, and list_methods says what it lacks
    assert [e.files["plain loop"] for e in lacking if e.state != "in work"] == []
    assert set(STEPS) <= {f"{e.stem}_step" for e in begun}


@pytest.mark.parametrize("name", STEPS)
def test_both_sides_take_the_same_steps(name):
    torch.manual_seed(0)
    pair = import_module(CASES[name].module).pair()
    assert pair.name
    assert pair.setting
    parameters = sum(p.numel() for p in pair.model.parameters())
    assert pair.weightless or parameters > 1_000_000
    before = floats(pair.model)
    for side in (pair.ours, pair.plain):
        for seed in (1, 2):  # the second from a state that the first made
            torch.manual_seed(seed)
            np.random.seed(seed)
            side()
    ours, plain = floats(pair.model), floats(pair.twin)
    moved = 0.0
    for key, start in before.items():
        if key in pair.kept_apart:
            continue
        way, other = ours[key] - start, plain[key] - start
        bound = 2e-3 * way.norm() + 1e-6 * (start.norm() + 1)  # and rounding
        assert (way - other).norm() <= bound, key
        moved += float(way.norm() > 1e-5 * (start.norm() + 1e-3))
    learning = sum(p.requires_grad for p in pair.model.parameters())
    assert moved >= min(10, learning)  # tensors that went further than rounding


def test_a_pair_becomes_a_case():
    """Of all: nothing but the pair itself is the method's own."""
    name = min(STEPS, key=lambda name: CASES[name].quick_seconds)
    (found,) = function_of(name)(Plan(rounds=1, quick=True))
    assert found.case.endswith("step / plain torch")
    assert found.setting.endswith("M parameters")
    assert found.target == 1.15
    assert found.ratio > 0
