"""Diffusion and generative distillation. Importing this package registers them."""

from pld_mmdet.diffusion.boot import BOOT, NoiseStarts
from pld_mmdet.diffusion.data.moving_object import (
    MovingObject,
    OtherObjects,
    SceneViews,
)
from pld_mmdet.diffusion.data.ring import EnergyDistance, GaussianRing
from pld_mmdet.diffusion.disback import DisBack
from pld_mmdet.diffusion.dmd2 import DMD2
from pld_mmdet.diffusion.gen4d import Gen4D
from pld_mmdet.diffusion.ict import ICT
from pld_mmdet.diffusion.lsd import LSD
from pld_mmdet.diffusion.networks.ddit import DDiTScore
from pld_mmdet.diffusion.networks.denoisers import (
    Beside,
    ConvDenoiser,
    ConvHead,
    DiffusersUNet,
    MLPHead,
    PatchLogits,
    TimeMLP,
)
from pld_mmdet.diffusion.networks.priors import ViewPrior, Zero123Prior
from pld_mmdet.diffusion.networks.spaces import LatentSpace, PixelSpace
from pld_mmdet.diffusion.networks.text import (
    CaptionedImages,
    ClipScore,
    ClipWords,
    LatentReward,
    TextUNet,
)
from pld_mmdet.diffusion.processes.discrete import (
    MaskedLMScore,
    MaskedStarts,
    RingLanguage,
    RingViolations,
)
from pld_mmdet.diffusion.processes.levels import CosineProcess, EDMProcess, EpsProcess
from pld_mmdet.diffusion.processes.schedule import ScheduleProcess
from pld_mmdet.diffusion.rendering.hexplane import HexPlaneField
from pld_mmdet.diffusion.rg_lcd import RGLCD
from pld_mmdet.diffusion.scores.curve import MetricCurveHook
from pld_mmdet.diffusion.scores.fidelity import PSNR, PatchDistance
from pld_mmdet.diffusion.scores.ring_reward import MeanOf, PointReward, RingExpert
from pld_mmdet.diffusion.yonos_sr import YonosSR

__all__ = [
    "BOOT",
    "DMD2",
    "ICT",
    "LSD",
    "PSNR",
    "RGLCD",
    "Beside",
    "CaptionedImages",
    "ClipScore",
    "ClipWords",
    "ConvDenoiser",
    "ConvHead",
    "CosineProcess",
    "DDiTScore",
    "DiffusersUNet",
    "DisBack",
    "EDMProcess",
    "EnergyDistance",
    "EpsProcess",
    "GaussianRing",
    "Gen4D",
    "HexPlaneField",
    "LatentReward",
    "LatentSpace",
    "MLPHead",
    "MaskedLMScore",
    "MaskedStarts",
    "MeanOf",
    "MetricCurveHook",
    "MovingObject",
    "NoiseStarts",
    "OtherObjects",
    "PatchDistance",
    "PatchLogits",
    "PixelSpace",
    "PointReward",
    "RingExpert",
    "RingLanguage",
    "RingViolations",
    "SceneViews",
    "ScheduleProcess",
    "TextUNet",
    "TimeMLP",
    "ViewPrior",
    "YonosSR",
    "Zero123Prior",
]
