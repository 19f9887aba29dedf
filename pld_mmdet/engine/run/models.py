"""What the run asks of any model."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, also where DistributedDataParallel or its like holds it."""
    return model.module if is_model_wrapper(model) else model
