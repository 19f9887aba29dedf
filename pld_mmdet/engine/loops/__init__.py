"""Loops that mmengine lacks. Importing this package registers them."""

from pld_mmdet.engine.loops.adabn import AdaBNLoop

__all__ = ["AdaBNLoop"]
