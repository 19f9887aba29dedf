"""Passes in turn: by hand, on two processes, resumed, and what is refused."""

import itertools
from types import SimpleNamespace

import pytest

from pld_mmdet.engine.data import semi_sampler
from pld_mmdet.engine.data.in_turn import InTurnSampler
from pld_mmdet.errors import UserError


def make(first=5, second=7, **more):
    """Five labelled images (0 to 4) and seven others (5 to 11), batches of 2."""
    data = SimpleNamespace(datasets=[range(first), range(second)])
    return InTurnSampler(data, **{"batch_size": 2, "every": 3, "seed": 4, **more})


def batches(sampler, number):
    draws = list(itertools.islice(iter(sampler), 2 * number))
    return [draws[i : i + 2] for i in range(0, len(draws), 2)]


def test_a_cycle_by_hand():
    """3 steps of labels, 4 of the others, 3 + 3 of labels; then the next cycle."""
    kinds = [{i >= 5 for i in batch} for batch in batches(make(), 26)]
    one = 3 * [{False}] + 4 * [{True}] + 6 * [{False}]
    assert kinds == one + one


def test_a_pass_sees_every_image():
    found = batches(make(), 26)
    labelled = [i for batch in found for i in batch if i < 5]
    others = [i for batch in found for i in batch if i >= 5]
    for images, size in ((labelled, 5), (others, 7)):
        turns = [images[n : n + size] for n in range(0, len(images) - size + 1, size)]
        assert all(len(set(turn)) == size for turn in turns)
    assert labelled[:5] != labelled[5:10]


def test_processes_are_in_the_same_pass(monkeypatch):
    """Two processes: 2, 2 and 4 steps; no image comes twice in a pass of both."""
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(semi_sampler, "get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(batches(make(), 8))
    kinds = [[{i >= 5 for i in batch} for batch in part] for part in parts]
    of_labels, of_others = [{False}], [{True}]
    assert kinds[0] == kinds[1] == 2 * of_labels + 2 * of_others + 4 * of_labels
    first = [i for step in zip(*parts, strict=True) for batch in step for i in batch]
    assert set(first[:5]) == {0, 1, 2, 3, 4}


def test_it_goes_on_where_it_stopped():
    later = make()
    later.skip(10)
    assert batches(later, 9) == batches(make(), 14)[5:]


def test_refusals():
    with pytest.raises(UserError, match="every=0"):
        make(every=0)
    with pytest.raises(UserError, match="empty"):
        make(second=0)
