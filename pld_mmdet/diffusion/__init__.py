"""Diffusion and generative distillation. Importing this package registers them."""

from pld_mmdet.diffusion.curve import MetricCurveHook
from pld_mmdet.diffusion.dmd2 import DMD2
from pld_mmdet.diffusion.ict import ICT
from pld_mmdet.diffusion.networks import ConvHead, DiffusersUNet, MLPHead, TimeMLP
from pld_mmdet.diffusion.processes import CosineProcess, EDMProcess, EpsProcess
from pld_mmdet.diffusion.ring import EnergyDistance, GaussianRing

__all__ = [
    "DMD2",
    "ICT",
    "ConvHead",
    "CosineProcess",
    "DiffusersUNet",
    "EDMProcess",
    "EnergyDistance",
    "EpsProcess",
    "GaussianRing",
    "MLPHead",
    "MetricCurveHook",
    "TimeMLP",
]
