"""Optimizer wrappers that take no step from a loss or gradient that is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from pld_mmdet.errors import UserError
from pld_mmdet.registry import OPTIM_WRAPPERS


def _no_scaling() -> object:
    """A gradient scaler that does nothing; torch before 2.3 has it elsewhere."""
    kind = getattr(torch.amp, "GradScaler", None)
    if kind is None:
        return torch.cuda.amp.GradScaler(enabled=False)
    return kind(get_device(), enabled=False)


class _FiniteMixin:
    """Skips, counts, and stops after too many skips in a row.

    A skipped step leaves weights, optimizer state and batch-norm statistics as they
    were. All processes decide together on the loss; gradients are the same on all of
    them after DDP's reduction. When gradients are accumulated, a bad part spoils its
    whole window, because a window with a part missing has another scale.
    """

    def _start_counting(self, max_skipped_in_a_row: int) -> None:
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self.skipped_steps = 0
        self._in_a_row = 0
        self._spoilt = False  # the window under accumulation
        self._norms: list[nn.Module] | None = None
        self._statistics: list[tuple[torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Remember the batch-norm statistics that this forward pass will move."""
        if self._norms is None:
            kind = nn.modules.batchnorm._NormBase
            self._norms = [m for m in model.modules() if isinstance(m, kind)]
        self._statistics = [
            (buffer, buffer.clone())
            for norm in self._norms
            if norm.training
            for buffer in norm.buffers(recurse=False)
        ]
        with super().optim_context(model):
            yield

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """Step as mmengine does, unless the loss is not finite on some process.

        Args:
            loss: Scalar to differentiate.
            step_kwargs: For ``optimizer.step``.
            zero_kwargs: For ``optimizer.zero_grad``.

        Raises:
            UserError: After ``max_skipped_in_a_row`` skipped steps in a row.
        """
        finite = torch.isfinite(loss.detach()).all().float()
        if get_world_size() > 1:
            all_reduce(finite, op="min")
        if not self._spoilt and finite.item() == 1.0:
            super().update_params(loss, step_kwargs, zero_kwargs)
            return
        # no backward: DDP then waits for no reduction, and the window stays empty
        self._inner_count += 1
        self.zero_grad(**(zero_kwargs or {}))
        if finite.item() != 1.0:
            self._restore_statistics()
            self._spoilt = True
        if self.should_update():
            self._spoilt = False
            self._skip("loss")

    @property
    def skipped_in_a_row(self) -> int:
        """Steps that were skipped since the last one that was taken."""
        return self._in_a_row

    def _gradients(self) -> list[torch.Tensor]:
        params = (p for g in self.optimizer.param_groups for p in g["params"])
        return [p.grad for p in params if p.grad is not None]

    def _restore_statistics(self) -> None:
        with torch.no_grad():
            for buffer, before in self._statistics:
                buffer.copy_(before)

    def _skip(self, what: str) -> None:
        self.skipped_steps += 1
        self._in_a_row += 1
        self.message_hub.update_scalar("train/skipped_steps", self.skipped_steps)
        if self._in_a_row < self.max_skipped_in_a_row:
            return
        info = self.message_hub.runtime_info
        last = info.get("last_ckpt")
        raise UserError(
            f"The {what} was NaN or infinite for {self._in_a_row} steps in a row, last "
            f"at iteration {info.get('iter', 0) + 1}; training stopped. Last good "
            f"checkpoint: {last or 'none yet'}.",
            "Usual reasons: learning rate too high or without warm-up, fp16 instead of "
            "bf16, NaN in the initial weights or in the data. Lower "
            "optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad, then start "
            "again" + (" with --resume." if last else "."),
        )

    def state_dict(self) -> dict:
        """The wrapped optimizer's state and the counters."""
        state = super().state_dict()
        state["skipped"] = {"steps": self.skipped_steps, "in_a_row": self._in_a_row}
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` or a stock wrapper saved."""
        state_dict = dict(state_dict)
        skipped = state_dict.pop("skipped", {"steps": 0, "in_a_row": 0})
        self.skipped_steps = skipped["steps"]
        self._in_a_row = skipped["in_a_row"]
        super().load_state_dict(state_dict)


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(_FiniteMixin, OptimWrapper):
    """``OptimWrapper`` that skips steps whose loss or gradient norm is not finite.

    Args:
        max_skipped_in_a_row: Stop the run after so many skips without a good step.
        kwargs: As in ``mmengine.optim.OptimWrapper``.
    """

    def __init__(self, *args, max_skipped_in_a_row: int = 10, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._start_counting(max_skipped_in_a_row)

    def step(self, **kwargs) -> None:
        """Clip and step, or skip if the gradients' norm is not finite."""
        # one pass over the gradients; the sum is finite if and only if all are
        norms = torch._foreach_norm(self._gradients())
        if norms and not torch.isfinite(torch.stack(norms).sum()).item():
            self._restore_statistics()
            self._skip("gradient")
            return
        super().step(**kwargs)
        self._in_a_row = 0


@OPTIM_WRAPPERS.register_module()
class FiniteAmpOptimWrapper(_FiniteMixin, AmpOptimWrapper):
    """Mixed precision with the same care; bf16 also works without a GPU.

    fp16 overflows are part of loss scaling: the scaler skips them and halves its
    scale. They are counted, but they count towards stopping only once the scale has
    fallen below 1, when it is the model and no longer the scale.

    Args:
        dtype: ``float16`` or ``bfloat16`` (bf16 needs no loss scaling and uses none).
        max_skipped_in_a_row: Stop the run after so many skips without a good step.
        kwargs: As in ``mmengine.optim.AmpOptimWrapper``.

    Raises:
        UserError: For fp16 without a GPU, and for a loss that was computed outside of
            :meth:`optim_context`, where mixed precision has no effect.
    """

    def __init__(
        self, *args, dtype: str = "float16", max_skipped_in_a_row: int = 10, **kwargs
    ) -> None:
        if get_device() == "cpu":
            if dtype != "bfloat16":
                raise UserError(
                    f"Mixed precision in {dtype} needs a GPU, and none is visible.",
                    "Use --amp bf16, or leave --amp out.",
                )
            # AmpOptimWrapper asserts a GPU; all it would set is set here
            kwargs.pop("loss_scale", None)
            OptimWrapper.__init__(self, *args, **kwargs)
            self.cast_dtype = torch.bfloat16
            self._scale_update_param = None
        else:
            super().__init__(*args, dtype=dtype, **kwargs)
        if dtype == "bfloat16":
            self.loss_scaler = _no_scaling()
        self._start_counting(max_skipped_in_a_row)
        self._entered = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and remember the batch-norm statistics."""
        self._entered = True
        with super().optim_context(model):
            yield

    def update_params(self, loss: torch.Tensor, *args, **kwargs) -> None:
        """See the base class."""
        if not self._entered:
            raise UserError(
                "A loss was computed outside of optim_wrapper.optim_context, so mixed "
                "precision would have no effect on it.",
                "Leave --amp out, or let the model's train_step enter that context.",
            )
        self._entered = False
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs) -> None:
        """Step through the loss scaler, or skip and count."""
        if not self.loss_scaler.is_enabled():
            norms = torch._foreach_norm(self._gradients())
            if norms and not torch.isfinite(torch.stack(norms).sum()).item():
                self._restore_statistics()
                self._skip("gradient")
                return
            super().step(**kwargs)
            self._in_a_row = 0
            return
        before = self.loss_scaler.get_scale()
        super().step(**kwargs)
        scale = self.loss_scaler.get_scale()
        if scale >= before:
            self._in_a_row = 0
        elif scale >= 1.0:
            self.skipped_steps += 1
            self.message_hub.update_scalar("train/skipped_steps", self.skipped_steps)
        else:
            self._restore_statistics()
            self._skip("gradient")
