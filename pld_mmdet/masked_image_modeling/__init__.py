"""Masked image modelling: students of masked autoencoders. Importing registers it."""

from pld_mmdet.masked_image_modeling.dmae import DMAE
from pld_mmdet.masked_image_modeling.g2sd import G2SD
from pld_mmdet.masked_image_modeling.hybrid_distill import HybridDistill
from pld_mmdet.masked_image_modeling.networks.vit import MAEDecoder, MaskedViT
from pld_mmdet.masked_image_modeling.scores.attention import AttentionMetric
from pld_mmdet.masked_image_modeling.self_distill_pretrain import (
    SelfDistillPretrain,
)

__all__ = [
    "DMAE",
    "G2SD",
    "AttentionMetric",
    "HybridDistill",
    "MAEDecoder",
    "MaskedViT",
    "SelfDistillPretrain",
]
