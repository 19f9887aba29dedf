"""Classification: distillation and pseudo-labels. Importing registers the classes."""

from pld_mmdet.classification.bd_kd import BDKD
from pld_mmdet.classification.cifar import CIFAR
from pld_mmdet.classification.cifar_resnet import CIFARResNet
from pld_mmdet.classification.clip_teacher import CLIPImageEncoder, CLIPZeroShot
from pld_mmdet.classification.dho import DHO, MixSearchHook
from pld_mmdet.classification.digits_teacher import ConfusedDigitsTeacher
from pld_mmdet.classification.images import ClassFolder, LabelledAndNot
from pld_mmdet.classification.ps_kd import PSKD, PastSelfHook

__all__ = [
    "BDKD",
    "CIFAR",
    "DHO",
    "PSKD",
    "CIFARResNet",
    "CLIPImageEncoder",
    "CLIPZeroShot",
    "ClassFolder",
    "ConfusedDigitsTeacher",
    "LabelledAndNot",
    "MixSearchHook",
    "PastSelfHook",
]
