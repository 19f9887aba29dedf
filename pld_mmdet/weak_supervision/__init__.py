"""Weak supervision: test-time, federated and clustering pseudo-labels.

Importing registers the family's classes.
"""

from pld_mmdet.weak_supervision.cotta import CoTTA
from pld_mmdet.weak_supervision.networks import DigitNet, WideResNet
from pld_mmdet.weak_supervision.streams import CifarC, CorruptedDigits, StreamMetric
from pld_mmdet.weak_supervision.test_time import Tent

__all__ = [
    "CifarC",
    "CoTTA",
    "CorruptedDigits",
    "DigitNet",
    "StreamMetric",
    "Tent",
    "WideResNet",
]
