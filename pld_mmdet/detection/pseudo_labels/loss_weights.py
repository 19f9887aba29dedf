"""Which of the detector's losses learn from pseudo labels, and how much."""

from torch import Tensor

from pld_mmdet.errors import UserError

Losses = dict[str, Tensor | list[Tensor]]


def weigh_losses(losses: Losses, weights: dict[str, float]) -> Losses:
    """Multiply named losses; a weight of 0 takes one out (its gradient is 0).

    Args:
        losses: As a detector returns them: tensors, or lists of them (one a level).
        weights: Loss name (``loss_rpn_bbox``, ``loss_bbox``, ``s0.loss_cls``) to
            factor. Losses without one stay as they are.

    Raises:
        UserError: A name that the detector does not have.
    """
    unknown = weights.keys() - losses.keys()
    if unknown:
        raise UserError(
            f"loss_weights: the detector has no {', '.join(sorted(unknown))}.",
            f"Its losses are {', '.join(k for k in losses if 'loss' in k)}.",
        )
    return {
        name: _scaled(value, weights[name]) if name in weights else value
        for name, value in losses.items()
    }


def _scaled(loss: Tensor | list[Tensor], weight: float) -> Tensor | list[Tensor]:
    return [x * weight for x in loss] if isinstance(loss, list) else loss * weight
