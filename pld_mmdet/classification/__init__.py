"""Classification: distillation and pseudo-labels. Importing registers the classes."""

from pld_mmdet.classification.bd_kd import BDKD
from pld_mmdet.classification.clip_teacher import CLIPImageEncoder, CLIPZeroShot
from pld_mmdet.classification.dho import DHO, MixSearchHook
from pld_mmdet.classification.digits_teacher import ConfusedDigitsTeacher
from pld_mmdet.classification.ps_kd import PSKD
from pld_mmdet.classification.self_distillation_theory import (
    KernelSelfDistillation,
    SelfDistillationChain,
)
from pld_mmdet.classification.sla_sd import SLASD

__all__ = [
    "BDKD",
    "DHO",
    "PSKD",
    "SLASD",
    "CLIPImageEncoder",
    "CLIPZeroShot",
    "ConfusedDigitsTeacher",
    "KernelSelfDistillation",
    "MixSearchHook",
    "SelfDistillationChain",
]
