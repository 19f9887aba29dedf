"""Loops that mmengine lacks. Importing this package registers them."""

from pld_mmdet.engine.loops.federated import FederatedLoop
from pld_mmdet.engine.loops.online import OnlineLoop
from pld_mmdet.engine.loops.staged import StagedLoop

__all__ = ["FederatedLoop", "OnlineLoop", "StagedLoop"]
