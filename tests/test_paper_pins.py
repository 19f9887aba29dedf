"""The check of published numbers notices what it is there for."""

import pytest
from mmengine.config import Config

from tests import paper_pins
from tests.paper_pins import ROOT, check, lookup, pins, processes

DMD2 = "configs/dmd2/paper.py"


def test_every_pinned_config_exists_and_names_a_file_of_its_source():
    assert all((ROOT / config).is_file() for config in pins())
    sources = {row["source"] for rows in pins().values() for row in rows}
    assert all(len(source) > 10 for source in sources)


def test_a_missing_argument_of_an_optimizer_is_its_default():
    """KRR-ST's decay of 0 was once left out: torch's AdamW has 0.01."""
    cfg = Config({"optim_wrapper": {"pool.0": {"optimizer": {"type": "AdamW"}}}})
    key = "optim_wrapper.pool.0.optimizer"
    assert lookup(cfg, f"{key}.weight_decay") == 0.01
    assert lookup(cfg, f"{key}.eps") == 1e-8
    assert lookup(cfg, "optim_wrapper.clip_grad.max_norm") is None
    hooks = Config({"custom_hooks": [{"type": "pld_mmdet.A", "x": 3}, {"type": "B"}]})
    assert lookup(hooks, "custom_hooks.A.x") == 3


def test_processes_are_those_of_the_documented_command():
    cfg = Config.fromfile(ROOT / DMD2)
    assert processes(DMD2, cfg) == {7}
    assert processes("configs/cotta/paper.py", cfg) == {1}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim_wrapper.critic.optimizer.eps", "1e-6", "eps: 1e-08"),
        ("train_dataloader.batch_size", "40 x 8", "40 x {7} x 1"),
        ("train_dataloader.batch_size", "40 x 7 x 2", "40 x {7} x 1"),
        ("model.denoiser", "277.19", "model.denoiser: 295.89"),
        ("model.level_range", "(0.02, 0.97)", "level_range"),
    ],
)
def test_a_number_that_differs_is_named(monkeypatch, key, value, message):
    rows = [dict(row) for row in pins()[DMD2]]
    next(row for row in rows if row["key"] == key)["value"] = value
    monkeypatch.setattr(paper_pins, "pins", lambda: {DMD2: rows})
    with pytest.raises(AssertionError) as error:
        check(DMD2)
    assert message in str(error.value)
    assert "tianweiy/DMD2" in str(error.value) or "x {7}" in message


def test_a_config_without_pins_fails(monkeypatch):
    few = [row for row in pins()[DMD2] if row["what"] != "decay"]
    monkeypatch.setattr(paper_pins, "pins", lambda: {DMD2: few})
    with pytest.raises(AssertionError, match=r"no \['decay'\] of configs/dmd2"):
        check(DMD2)
    with pytest.raises(AssertionError, match=r"no \['batch', .* of configs/taid"):
        check("configs/taid/paper.py")
