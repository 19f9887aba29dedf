"""Small networks and data that the toy configs of several families share.

Real data come from packages (scikit-learn's digits); nothing is downloaded.
"""

from pld_mmdet.toys.classifier import Classifier
from pld_mmdet.toys.digits import Digits
from pld_mmdet.toys.label_subsets import LabelSubsets
from pld_mmdet.toys.labelled_images import LabelledImages
from pld_mmdet.toys.networks import MLP, SmallConvNet

__all__ = [
    "MLP",
    "Classifier",
    "Digits",
    "LabelSubsets",
    "LabelledImages",
    "SmallConvNet",
]
