"""Language models: distillation and pseudo-labels for text. Importing registers it."""

from pld_mmdet.language.causal import CausalDistillation, CausalLanguageModel
from pld_mmdet.language.chat import ChatText
from pld_mmdet.language.markov import MarkovSource, MarkovText
from pld_mmdet.language.metrics import TokenMeanMetric
from pld_mmdet.language.networks import CausalTransformer
from pld_mmdet.language.taid import TAID

__all__ = [
    "TAID",
    "CausalDistillation",
    "CausalLanguageModel",
    "CausalTransformer",
    "ChatText",
    "MarkovSource",
    "MarkovText",
    "TokenMeanMetric",
]
