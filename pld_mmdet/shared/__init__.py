"""What several families build from: data, networks, the plain classifier, its probe.

Real data come from packages (scikit-learn's digits) or are generated; nothing is
downloaded. Importing this package registers its classes.
"""

from pld_mmdet.shared.classifier import Classifier
from pld_mmdet.shared.data.bags import Bags
from pld_mmdet.shared.data.cifar import CIFAR
from pld_mmdet.shared.data.class_folder import ClassFolder, LabelledAndNot
from pld_mmdet.shared.data.digits import Digits
from pld_mmdet.shared.data.label_subsets import LabelSubsets
from pld_mmdet.shared.data.labelled_images import LabelledImages
from pld_mmdet.shared.data.mistakes import SystematicMistakes
from pld_mmdet.shared.data.photo_patches import PhotoPatches
from pld_mmdet.shared.data.street_crops import StreetCrops
from pld_mmdet.shared.encoder_rows import FineTune, LinearProbe
from pld_mmdet.shared.linear_probe import LinearProbeMetric
from pld_mmdet.shared.networks.cifar_resnet import CIFARResNet
from pld_mmdet.shared.networks.deep import SmallDenseNet121, SmallResNet50
from pld_mmdet.shared.networks.efficientnet_lite import EfficientNetLite
from pld_mmdet.shared.networks.mobile import (
    SmallEfficientNetB0,
    SmallMobileNetV2,
    SmallShuffleNet,
    SmallShuffleNetV2,
)
from pld_mmdet.shared.networks.residual import DigitNet, GroupNormResNet, WideResNet
from pld_mmdet.shared.networks.small import MLP, SmallConvNet

__all__ = [
    "CIFAR",
    "MLP",
    "Bags",
    "CIFARResNet",
    "ClassFolder",
    "Classifier",
    "DigitNet",
    "Digits",
    "EfficientNetLite",
    "FineTune",
    "GroupNormResNet",
    "LabelSubsets",
    "LabelledAndNot",
    "LabelledImages",
    "LinearProbe",
    "LinearProbeMetric",
    "PhotoPatches",
    "SmallConvNet",
    "SmallDenseNet121",
    "SmallEfficientNetB0",
    "SmallMobileNetV2",
    "SmallResNet50",
    "SmallShuffleNet",
    "SmallShuffleNetV2",
    "StreetCrops",
    "SystematicMistakes",
    "WideResNet",
]
