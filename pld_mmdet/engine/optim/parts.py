"""Several optimizers in one run: one optimizer wrapper for each named part."""

from mmengine.dist import all_reduce, broadcast, get_world_size
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError
from pld_mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartsOptimConstructor:
    """Builds an ``OptimWrapperDict`` with one member for each named submodule.

    A config looks like this; ``type`` and other plain values hold for every member::

        optim_wrapper = dict(
            constructor='pld_mmdet.PartsOptimConstructor',
            type='pld_mmdet.FiniteOptimWrapper',
            generator=dict(optimizer=dict(type='AdamW', lr=2e-6)),
            critic=dict(optimizer=dict(type='AdamW', lr=4e-6)))

    A key is the dotted path of a submodule (``pool.0``). The model's ``train_step``
    calls ``optim_wrapper['generator'].update_params(loss)``, once or several times or
    not at all in an iteration. The states of all members are in the checkpoint.

    Args:
        optim_wrapper_cfg: The members' configs by path, and what they share.
        paramwise_cfg: mmengine's options for every member.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        cfg = dict(optim_wrapper_cfg)
        self.parts = {key: cfg.pop(key) for key in list(cfg) if _is_part(cfg[key])}
        self.shared = cfg
        self.paramwise_cfg = paramwise_cfg
        if not self.parts:
            raise UserError(
                "optim_wrapper names no part of the model.",
                "Give it entries like generator=dict(optimizer=dict(type='AdamW')).",
            )

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """One wrapper a part.

        Raises:
            UserError: A key is no submodule, or has nothing to learn.
        """
        model = unwrapped(model)
        members = {}
        for path, part in self.parts.items():
            try:
                module = model.get_submodule(path)
            except AttributeError:
                children = ", ".join(name for name, _ in model.named_children())
                raise UserError(
                    f"optim_wrapper.{path}: {type(model).__name__} has no such part.",
                    f"Its parts are: {children}.",
                ) from None
            cfg = {**self.shared, **part}
            if self.paramwise_cfg is not None:
                cfg.setdefault("paramwise_cfg", self.paramwise_cfg)
            members[path] = build_optim_wrapper(module, cfg)
        return OptimWrapperDict(**members)


@MODEL_WRAPPERS.register_module()
class PartsParallel(nn.Module):
    """Several processes for models with a ``train_step`` of their own.

    mmengine's DDP wrapper runs one loss and one backward of the whole model, and its
    variant for several networks wraps each child, whose attributes are then out of
    reach. Here the model stays as it is: weights and buffers start as those of process
    0, and each parameter's gradient is averaged as soon as it is complete. All
    processes must therefore take the same turns. Set
    ``model_wrapper_cfg = dict(type='PartsParallel')``.

    Args:
        module: The model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for tensor in (*module.parameters(), *module.buffers()):
            broadcast(tensor.data)
        if get_world_size() > 1:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_average_gradient)

    def forward(self, *args, **kwargs):
        """The model's."""
        return self.module(*args, **kwargs)

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """The model's."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: dict) -> list:
        """The model's."""
        return self.module.val_step(data)

    def test_step(self, data: dict) -> list:
        """The model's."""
        return self.module.test_step(data)


def _average_gradient(parameter: Tensor) -> None:
    all_reduce(parameter.grad, op="mean")


def _is_part(value: object) -> bool:
    return isinstance(value, dict) and "optimizer" in value
