"""Three-branch batches (labelled, weak, strong) for the semi-supervised wrappers."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from tests.detection.helpers import batch_of

EYE = np.eye(3, dtype=np.float32)


def semi_batch(
    labelled: int = 1,
    unlabelled: int = 2,
    size: int = 64,
    seed: int = 0,
    sup_size: int | None = None,
    **kwargs,
) -> dict:
    """A batch as collated; ``sup`` images carry two boxes each."""
    batch = batch_of(unlabelled, size, seed, **kwargs)
    side = sup_size or size
    generator = torch.Generator().manual_seed(seed + 100)
    shape = (3, side, side)
    batch["inputs"]["sup"] = [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        for _ in range(labelled)
    ]
    batch["data_samples"]["sup"] = [
        DetDataSample(
            metainfo=dict(
                img_id=n,
                img_path=f"sup{n}.png",
                ori_shape=(side, side),
                img_shape=(side, side),
                scale_factor=(1.0, 1.0),
                homography_matrix=EYE,
            ),
            gt_instances=InstanceData(
                bboxes=torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 8.0, 60.0, 50.0]]),
                labels=torch.tensor([0, 2]),
            ),
        )
        for n in range(labelled)
    ]
    return batch


def without_boxes(batch: dict) -> dict:
    """The same batch, its labelled images empty."""
    for sample in batch["data_samples"]["sup"]:
        sample.gt_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
    return batch
