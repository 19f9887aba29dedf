"""Both sides of the Soft Teacher benchmark do the same work."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from mmengine.registry import DefaultScope

from pld_mmdet.benchmark.memory import peak_resident_mb
from pld_mmdet.benchmark.networks import total
from pld_mmdet.benchmark.semi import OURS, PORT, SETTINGS, Stages, _stages, build_pair


@pytest.fixture(scope="module")
def pair():
    tiny = dataclasses.replace(SETTINGS["small"], size=(128, 64), images=(1, 2))
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield build_pair(tiny)


def test_both_sides_have_the_same_losses(pair):
    """Where no random number decides: all samplers take every proposal."""
    for model in (pair.ours, pair.port):
        for network in (model.student, model.teacher):
            for sampler in (network.roi_head.bbox_sampler, network.rpn_head.sampler):
                sampler.num, sampler.pos_fraction = 10**6, 1.0
    values = {}
    for side in (OURS, PORT):
        torch.manual_seed(0)
        losses = pair.losses(side)
        values[side] = {
            name: total({name: value}).item()
            for name, value in losses.items()
            if "loss" in name
        }
    assert values[OURS]["unsup_loss_bbox"] > 0
    assert values[OURS].keys() == values[PORT].keys()
    for name, value in values[OURS].items():
        assert value == pytest.approx(values[PORT][name], rel=1e-3, abs=1e-5), name


def test_every_stage_of_both_sides_is_timed(pair):
    ours, port = _stages(pair, OURS), _stages(pair, PORT)
    assert ours.keys() == port.keys()
    assert len(ours) == 7
    assert all(seconds > 0 for seconds in [*ours.values(), *port.values()])
    assert "extract_feat" not in vars(pair.ours.teacher)  # the method is back


def test_peak_memory_is_this_programs_own():
    """A child does not start with the peak of its parent, as ru_maxrss would."""
    block = torch.ones(400 * 2**18)  # 400 MB
    assert peak_resident_mb() > 400
    code = (
        "from pld_mmdet.benchmark.memory import peak_resident_mb\n"
        "print(peak_resident_mb())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    own = float(done.stdout.splitlines()[-1])
    assert own < peak_resident_mb() - block.nbytes / 2**20 / 2


def test_stages_are_exclusive(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("pld_mmdet.benchmark.semi.time.process_time", lambda: next(now))
    watch = Stages()
    with watch.block("outer"), watch.block("inner"):
        pass
    assert watch.seconds == {"outer": 5.0, "inner": 2.0}
