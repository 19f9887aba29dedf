"""The model behind a wrapper for several processes."""

from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from pld_mmdet.engine.run.models import unwrapped


def test_a_bare_model_is_itself():
    model = nn.Linear(2, 1)
    model.module = nn.Linear(1, 1)  # a name that only a wrapper means
    assert unwrapped(model) is model


def test_a_wrapped_model_is_what_the_wrapper_holds():
    model = nn.Linear(2, 1)
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    assert "MMDistributedDataParallel" in MODEL_WRAPPERS
    assert unwrapped(wrapper) is model
