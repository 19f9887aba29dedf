"""Language models: distillation and pseudo-labels for text. Importing registers it."""

from pld_mmdet.language.answers import (
    AnswerText,
    RotatedWords,
    RotatedWordsMetric,
)
from pld_mmdet.language.causal import CausalDistillation, CausalLanguageModel
from pld_mmdet.language.chat import ChatText
from pld_mmdet.language.cyclealign import CycleAlign
from pld_mmdet.language.dparallel import DParallel
from pld_mmdet.language.endings import Endings, ToneRanker
from pld_mmdet.language.ernie_tiny import ERNIETiny, TextClassifier
from pld_mmdet.language.first import FIRST
from pld_mmdet.language.grammar import TopicGrammar
from pld_mmdet.language.markov import MarkovSource, MarkovText
from pld_mmdet.language.metrics import TokenMeanMetric
from pld_mmdet.language.networks import (
    BidirectionalTransformer,
    CausalTransformer,
    EncoderTransformer,
)
from pld_mmdet.language.taid import TAID
from pld_mmdet.language.text import EncodedText

__all__ = [
    "FIRST",
    "TAID",
    "AnswerText",
    "BidirectionalTransformer",
    "CausalDistillation",
    "CausalLanguageModel",
    "CausalTransformer",
    "ChatText",
    "CycleAlign",
    "DParallel",
    "ERNIETiny",
    "EncodedText",
    "EncoderTransformer",
    "Endings",
    "MarkovSource",
    "MarkovText",
    "RotatedWords",
    "RotatedWordsMetric",
    "TextClassifier",
    "TokenMeanMetric",
    "ToneRanker",
    "TopicGrammar",
]
