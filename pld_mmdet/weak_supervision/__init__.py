"""Weak supervision: test-time, federated and clustering pseudo-labels.

Importing registers the family's classes.
"""

from pld_mmdet.weak_supervision.cotta import CoTTA
from pld_mmdet.weak_supervision.data.cifar_views import CIFARViews
from pld_mmdet.weak_supervision.data.clustering import ClusterMetric, LongTailDigits
from pld_mmdet.weak_supervision.data.federation import (
    DigitViews,
    Federation,
    NoisyDigits,
)
from pld_mmdet.weak_supervision.data.given_bags import GivenBags
from pld_mmdet.weak_supervision.data.mil import InstanceBags, MILMetric
from pld_mmdet.weak_supervision.data.proportions import (
    AUCMetric,
    ProportionBags,
    Table,
    TwoClasses,
)
from pld_mmdet.weak_supervision.data.streams import (
    CifarC,
    CorruptedDigits,
    StreamMetric,
)
from pld_mmdet.weak_supervision.fedlabel import FedLabel
from pld_mmdet.weak_supervision.ins import INS
from pld_mmdet.weak_supervision.learners.online_adaptation import Tent
from pld_mmdet.weak_supervision.llp_bp import LLPBP
from pld_mmdet.weak_supervision.networks.translation import AttentionUNet, ClassCritic
from pld_mmdet.weak_supervision.networks.vit import ViTBackbone
from pld_mmdet.weak_supervision.sp2ot import SP2OT
from pld_mmdet.weak_supervision.sparse import SPARSE

__all__ = [
    "INS",
    "LLPBP",
    "SP2OT",
    "SPARSE",
    "AUCMetric",
    "AttentionUNet",
    "CIFARViews",
    "CifarC",
    "ClassCritic",
    "ClusterMetric",
    "CoTTA",
    "CorruptedDigits",
    "DigitViews",
    "FedLabel",
    "Federation",
    "GivenBags",
    "InstanceBags",
    "LongTailDigits",
    "MILMetric",
    "NoisyDigits",
    "ProportionBags",
    "StreamMetric",
    "Table",
    "Tent",
    "TwoClasses",
    "ViTBackbone",
]
