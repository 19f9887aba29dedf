"""Losses whose gradient is given, and no function's derivative."""

from torch import Tensor


def score_gradient_loss(x: Tensor, grad: Tensor) -> Tensor:
    """sum (x - sg[x - grad])^2, whose gradient in x is 2 grad.

    Args:
        x: What is moved, N x ...
        grad: Against which direction, of the same shape; detached here.

    Returns:
        A scalar.
    """
    return (x - (x - grad).detach()).square().sum()
