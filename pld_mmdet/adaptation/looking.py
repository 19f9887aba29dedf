"""What a detector sees on some images, outside of any run."""

from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from pld_mmdet.adaptation.compose import keys_of, split_pipeline
from pld_mmdet.adaptation.detector import Detector
from pld_mmdet.detection.detectors.stock import build_detector


@torch.no_grad()
def look(
    cfg: Config, detector: Detector, state: dict, paths: Iterable[Path]
) -> list[InstanceData]:
    """Detections of a plain detector on images, in their own pixels, on the CPU.

    Args:
        cfg: Stock config; its test pipeline makes the inputs.
        detector: The one of that config.
        state: Its weights.
        paths: Of the images, one by one.

    Returns:
        One entry an image with ``bboxes`` [N, 4], ``scores`` [N], ``labels`` [N].
        Boxes that are not finite, or have no width or height, are left out.
    """
    network = build_detector(detector.config).eval()
    network.load_state_dict(state)
    network = network.to(get_device())
    loading, geometry = split_pipeline(cfg)
    pack = dict(type="PackDetInputs", meta_keys=keys_of(cfg))
    with DefaultScope.overwrite_default_scope("mmdet"):  # whose names a config bears
        pipeline = Compose([*loading, *geometry, pack])
    seen = []
    for number, path in enumerate(paths):
        data = pipeline(dict(img_path=str(path), img_id=number))
        (sample,) = network.test_step(pseudo_collate([data]))
        found = sample.pred_instances
        boxes, scores = found.bboxes.float().cpu(), found.scores.float().cpu()
        sound = boxes.isfinite().all(1) & scores.isfinite()
        sound &= (boxes[:, 2:] > boxes[:, :2]).all(1)  # YOLOv3 has others
        seen.append(
            InstanceData(
                bboxes=boxes[sound],
                scores=scores[sound],
                labels=found.labels.cpu()[sound],
            )
        )
    return seen
