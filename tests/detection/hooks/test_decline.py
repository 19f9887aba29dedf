"""A slow decline is seen; sound runs, noise and single bad windows are not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from pld_mmdet.detection.hooks.decline import kept_share, slow_decline

ROOT = Path(__file__).resolve().parents[3]
RUNS = json.loads((ROOT / "docs/results/foggy_streets_scores.json").read_text())["runs"]
SOUND = [name for name in RUNS if "collapse" not in name]


def test_a_fall_by_hand():
    """Eight values near 0.8 - 0.02 n."""
    values = [0.8, 0.78, 0.76, 0.75, 0.71, 0.7, 0.68, 0.66]
    # slope -0.85 / 42, mean 0.73: the line falls by 0.141667 from 0.800833
    assert slow_decline(values) == pytest.approx(0.141667 / 0.800833, abs=1e-4)
    assert slow_decline(values, fall=0.18) is None
    assert slow_decline(values, certainty=40) is None
    assert slow_decline(values[:-1]) is None  # seven windows
    assert slow_decline([]) is None


def test_slower_than_any_window_shows():
    """From 47 to 38 in forty windows: no step is larger than one percent."""
    values = np.linspace(0.47, 0.38, 40)
    assert max(-np.diff(values) / values[:-1]) < 0.01
    fired = [n for n in range(40) if slow_decline(values[: n + 1]) is not None]
    assert fired == list(range(31, 40))


def test_a_run_that_first_rises_is_seen_to_fall():
    values = [*np.linspace(0.3, 0.6, 20), *np.linspace(0.6, 0.4, 20)]
    fired = [n for n in range(40) if slow_decline(values[: n + 1]) is not None]
    assert min(fired) in range(25, 30)


def test_one_bad_window_is_none():
    values = [0.8, 0.81, 0.82, 0.8, 0.83, 0.2, 0.84, 0.82, 0.85, 0.84]
    assert not any(slow_decline(values[: n + 1]) for n in range(len(values)))


def test_rising_and_level_runs_are_sound():
    assert slow_decline(np.linspace(0.3, 0.6, 20)) is None
    assert slow_decline([0.5] * 20) is None
    assert slow_decline([0.0] * 20) is None


def alarmed(series) -> float:
    """Share of the runs, one a row, that raise an alarm at some window."""
    return np.mean(
        [
            any(slow_decline(row[: n + 1]) is not None for n in range(len(row)))
            for row in series
        ]
    )


def test_noise_hardly_ever_fires_and_a_decline_within_noise_does():
    """Forty windows; noise of 10 % and 4 %; a decline of a quarter."""
    rng = np.random.default_rng(0)
    assert alarmed(rng.normal(0.6, 0.06, (200, 40))) <= 0.03
    steady = rng.normal(0.6, 0.024, (200, 40))
    assert alarmed(steady) <= 0.02
    assert alarmed(steady * np.linspace(1.0, 0.75, 40)) > 0.95


@pytest.mark.parametrize("name", SOUND)
def test_recorded_sound_runs_raise_nothing(name):
    """Two detectors, three seeds; five evaluations each, drawn out to forty windows."""
    series = [row["agreement"] for row in RUNS[name]]
    assert len(series) == 5
    windows = np.interp(np.linspace(0, 4, 40), range(5), series)
    assert alarmed([windows]) == 0


def boxes(*rows, labels=None):
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 4)
    return InstanceData(bboxes=table, labels=torch.tensor(labels or [0] * len(table)))


def test_kept_boxes_by_hand():
    before = [
        boxes([0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], labels=[1, 2, 1]),
        boxes([0, 0, 10, 10]),
        boxes(),
    ]
    now = [
        boxes([0, 0, 10, 8], [20, 0, 30, 10], [44, 0, 54, 10], labels=[1, 1, 1]),
        boxes(),
        boxes([5, 5, 9, 9]),
    ]
    # kept; another class; IoU 6/14; lost with its image; a new box does not count
    assert kept_share(before, now) == (1, 4)
    assert kept_share(before, before) == (4, 4)
