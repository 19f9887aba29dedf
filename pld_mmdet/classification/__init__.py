"""Classification: distillation and pseudo-labels. Importing registers the classes."""

from pld_mmdet.classification.bd_kd import BDKD
from pld_mmdet.classification.cifar import CIFAR
from pld_mmdet.classification.cifar_resnet import CIFARResNet
from pld_mmdet.classification.ps_kd import PSKD, PastSelfHook

__all__ = ["BDKD", "CIFAR", "PSKD", "CIFARResNet", "PastSelfHook"]
