"""The checks of arguments: what passes, what the sentences say."""

import pytest
import torch

from pld_mmdet.distill._checks import positive, same_shape, wide
from pld_mmdet.errors import UserError, one_of


def test_one_of():
    one_of("X", a=(1, (1, 2)), b=("u", ("u",)))
    with pytest.raises(UserError) as error:
        one_of("X", a=(1, (1, 2)), b=("w", ("u", "v")))
    assert error.value.what == "X: b='w' is not known."
    assert error.value.fix == "Choose one of 'u', 'v'."


def test_positive():
    positive("X", a=1e-9, b=3)
    for value in (0, -1.0, float("nan")):
        with pytest.raises(UserError) as error:
            positive("X", a=1.0, b=value)
        assert error.value.what == f"X: b={value} is not positive."
        assert error.value.fix == "Choose a b above 0."


def test_same_shape():
    same_shape("X", a=torch.zeros(2, 3), b=torch.ones(2, 3))
    with pytest.raises(UserError) as error:
        same_shape("X", a=torch.zeros(2, 3), b=torch.ones(3))
    assert error.value.what == "X: shapes differ: a (2, 3), b (3,)."
    assert error.value.fix == "Give tensors of one shape."


def test_wide():
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.int64):
        assert wide(torch.zeros(1, dtype=kind)).dtype == torch.float32
    assert wide(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
