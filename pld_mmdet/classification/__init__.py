"""Classification: distillation and pseudo-labels. Importing registers the classes."""

from pld_mmdet.classification.bd_kd import BDKD
from pld_mmdet.classification.data.mismatched import Mismatched
from pld_mmdet.classification.dho import DHO, MixSearchHook
from pld_mmdet.classification.distill_weighted import DistillWeighted
from pld_mmdet.classification.ferkd import FerKD
from pld_mmdet.classification.kd_prune import KDPrune, Pruned
from pld_mmdet.classification.meal_v2 import MEALV2
from pld_mmdet.classification.networks.backbone import BackboneClassifier
from pld_mmdet.classification.networks.class_means import ClassMeans, FrozenFeatures
from pld_mmdet.classification.networks.clip_teacher import (
    CLIPImageEncoder,
    CLIPZeroShot,
)
from pld_mmdet.classification.networks.digits_teacher import ConfusedDigitsTeacher
from pld_mmdet.classification.ps_kd import PSKD
from pld_mmdet.classification.rad import RAD, Bought, Part
from pld_mmdet.classification.random_teachers import HeadedEncoder, RandomTeachers
from pld_mmdet.classification.self_distillation_theory import (
    KernelSelfDistillation,
    SelfDistillationChain,
)
from pld_mmdet.classification.shrinkmatch import ShrinkMatch
from pld_mmdet.classification.simclrv2 import SimCLRv2
from pld_mmdet.classification.sla_sd import SLASD
from pld_mmdet.classification.ssld import SSLD
from pld_mmdet.classification.wad import WAD, Graded

__all__ = [
    "BDKD",
    "DHO",
    "MEALV2",
    "PSKD",
    "RAD",
    "SLASD",
    "SSLD",
    "WAD",
    "BackboneClassifier",
    "Bought",
    "CLIPImageEncoder",
    "CLIPZeroShot",
    "ClassMeans",
    "ConfusedDigitsTeacher",
    "DistillWeighted",
    "FerKD",
    "FrozenFeatures",
    "Graded",
    "HeadedEncoder",
    "KDPrune",
    "KernelSelfDistillation",
    "Mismatched",
    "MixSearchHook",
    "Part",
    "Pruned",
    "RandomTeachers",
    "SelfDistillationChain",
    "ShrinkMatch",
    "SimCLRv2",
]
