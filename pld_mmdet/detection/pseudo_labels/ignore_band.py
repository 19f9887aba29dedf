"""Middling detections are neither objects nor background."""

from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmengine.structures import InstanceData
from torch import nn

from pld_mmdet.errors import UserError

KEY = "doubtful"


class SparingAssigner:
    """An assigner that leaves out what a doubtful box would have claimed.

    A prior (anchor or proposal) is background by ``assigner``. If the doubtful boxes
    were objects, ``assigner`` would give some of these priors to them or leave them
    undecided; those take part in no loss. mmdet's own rule (``ignore_iof_thr``) is
    another one: it spares every prior that lies *inside* an ignored box, positives
    too, and none at all in an image without an object.

    Args:
        assigner: mmdet's.
    """

    def __init__(self, assigner: MaxIoUAssigner) -> None:
        self.assigner = assigner

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """As the assigner does; ``gt_instances_ignore`` are the doubtful boxes."""
        result = self.assigner.assign(pred_instances, gt_instances, **kwargs)
        if gt_instances_ignore is None or len(gt_instances_ignore) == 0:
            return result
        if_object = self.assigner.assign(pred_instances, gt_instances_ignore, **kwargs)
        spared = (result.gt_inds == 0) & (if_object.gt_inds != 0)
        result.gt_inds[spared] = -1
        return result


def spare_doubtful(detector: nn.Module) -> None:
    """Put a :class:`SparingAssigner` around every assigner of a detector.

    Raises:
        UserError: The detector has none, or one that knows no "left out".
    """
    found = 0
    for module in detector.modules():
        for name in ("assigner", "bbox_assigner"):
            ours = vars(module).get(name)
            if ours is None:
                continue
            wrapped = [_spare(a, detector) for a in _listed(ours)]
            setattr(module, name, wrapped if isinstance(ours, list) else wrapped[0])
            found += 1
    if not found:
        raise UserError(
            f"SpareDoubtful: {type(detector).__name__} matches boxes without an "
            "assigner that could leave some out.",
            "Leave it out, or use an anchor-based or two-stage detector.",
        )


def _listed(assigners: object) -> list:
    return assigners if isinstance(assigners, list) else [assigners]


def _spare(assigner: object, detector: nn.Module) -> SparingAssigner:
    if not isinstance(assigner, MaxIoUAssigner):
        raise UserError(
            f"SpareDoubtful: {type(assigner).__name__} of {type(detector).__name__} "
            "cannot leave boxes out of the loss.",
            "Leave it out, or use a detector with MaxIoUAssigner.",
        )
    return SparingAssigner(assigner)
