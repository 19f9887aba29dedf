"""Label-free scores of a detector: one file each, registered as metrics.

A score has ``add(detector, batch, shared)``, called for each batch with the views
``weak`` and ``strong``, and ``compute()``, which returns name -> value (larger is
better) and forgets what was added. ``shared`` is a dict that lives for one batch: what
several scores need stands in it once.
"""

from pld_mmdet.detection.evaluation.scores.agreement import ViewAgreement
from pld_mmdet.detection.evaluation.scores.box_stability import BoxStability
from pld_mmdet.detection.evaluation.scores.das import DetectionAdaptationScore

__all__ = ["BoxStability", "DetectionAdaptationScore", "ViewAgreement"]
