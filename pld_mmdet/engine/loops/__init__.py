"""Loops that mmengine lacks. Importing this package registers them."""

from pld_mmdet.engine.loops.adabn import AdaBNLoop
from pld_mmdet.engine.loops.federated import FederatedLoop
from pld_mmdet.engine.loops.online import OnlineLoop
from pld_mmdet.engine.loops.scored_val import ScoredValLoop
from pld_mmdet.engine.loops.staged import StagedLoop

__all__ = ["AdaBNLoop", "FederatedLoop", "OnlineLoop", "ScoredValLoop", "StagedLoop"]
