"""Loops that mmengine lacks. Importing this package registers them."""

from pld_mmdet.engine.loops.adabn import AdaBNLoop
from pld_mmdet.engine.loops.online import OnlineLoop

__all__ = ["AdaBNLoop", "OnlineLoop"]
