"""Ramps by hand, at and beyond their ends."""

import math

import pytest

from pld_mmdet.distill.schedules import ramp
from pld_mmdet.errors import UserError


def test_by_hand():
    assert ramp("linear", 2.0, 10.0, 0.25) == 4.0
    # (1 - cos 45 degrees) / 2 = 0.1464466
    assert ramp("cosine", 2.0, 10.0, 0.25) == pytest.approx(3.1715729, abs=1e-7)
    # exp(-5 * 0.75^2) = 0.0600547
    assert ramp("sigmoid", 2.0, 10.0, 0.25) == pytest.approx(2.4804373, abs=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
def test_ends_are_exact_and_clipped_and_the_way_monotonic(kind):
    start, end = 0.7, 0.1
    assert ramp(kind, start, end, 1.0) == end
    assert ramp(kind, start, end, 5.0) == end
    assert ramp(kind, start, end, -3.0) == ramp(kind, start, end, 0.0)
    way = [ramp(kind, start, end, i / 20) for i in range(21)]
    assert way == sorted(way, reverse=True)
    assert len(set(way)) == 21
    if kind == "sigmoid":
        share = math.exp(-5)
        assert way[0] == pytest.approx((1 - share) * start + share * end)
    else:
        assert way[0] == start


def test_unknown_kind():
    with pytest.raises(UserError, match="kind='step' is not known") as error:
        ramp("step", 0.0, 1.0, 0.5)
    assert error.value.fix == "Choose one of 'linear', 'cosine', 'sigmoid'."
