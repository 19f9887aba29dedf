"""What the vocabulary asks of its arguments."""

import torch
from torch import Tensor

from pld_mmdet.errors import UserError


def wide(tensor: Tensor) -> Tensor:
    """Half precision and whole numbers become float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def positive(owner: str, **numbers: float) -> None:
    """Every number is above 0.

    Raises:
        UserError: One is not (NaN is not either).
    """
    for name, value in numbers.items():
        if not value > 0:
            raise UserError(
                f"{owner}: {name}={value} is not positive.",
                f"Choose a {name} above 0.",
            )


def same_shape(owner: str, **tensors: Tensor) -> None:
    """All tensors have one shape.

    Raises:
        UserError: Shapes differ; the message lists them.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(
            f"{owner}: shapes differ: {listed}.", "Give tensors of one shape."
        )
