"""Loops of a detection run. Importing this package registers them."""

from pld_mmdet.detection.loops.adabn import AdaBNLoop
from pld_mmdet.detection.loops.scored_val import ScoredValLoop

__all__ = ["AdaBNLoop", "ScoredValLoop"]
