"""Policy of a detection run, one hook a file. Importing this package registers them."""

from pld_mmdet.detection.hooks.adabn import AdaBNHook
from pld_mmdet.detection.hooks.collapse_guard import CollapseGuardHook
from pld_mmdet.detection.hooks.pseudo_boxes import PseudoBoxHook
from pld_mmdet.detection.hooks.start_score import ScoreAtStartHook

__all__ = ["AdaBNHook", "CollapseGuardHook", "PseudoBoxHook", "ScoreAtStartHook"]
