"""Language models: distillation and pseudo-labels for text. Importing registers it."""

from pld_mmdet.language.autodistil import AutoDistil
from pld_mmdet.language.cyclealign import CycleAlign
from pld_mmdet.language.data.answers import (
    AnswerText,
    PromptedText,
    RotatedWords,
    RotatedWordsMetric,
)
from pld_mmdet.language.data.chat import ChatText
from pld_mmdet.language.data.endings import Endings, ToneRanker
from pld_mmdet.language.data.grammar import TopicGrammar
from pld_mmdet.language.data.in_context import PackedText, RandomMaps, TaskText
from pld_mmdet.language.data.lines import TextLines
from pld_mmdet.language.data.markov import MarkovSource, MarkovText
from pld_mmdet.language.data.sentences import (
    AlignedWords,
    ConceptPairs,
    JointTransformer,
    MeanOfWords,
    PairText,
    PooledTransformer,
)
from pld_mmdet.language.data.text import EncodedText
from pld_mmdet.language.data.world import (
    FactWorld,
    RewordingMetric,
    StatementMetric,
    WorldDocuments,
    WorldEntailment,
    WorldPrompts,
    WorldStatements,
)
from pld_mmdet.language.distiller import Distiller
from pld_mmdet.language.dparallel import DParallel
from pld_mmdet.language.ernie_tiny import ERNIETiny, TextClassifier
from pld_mmdet.language.first import FIRST
from pld_mmdet.language.i2d2 import I2D2
from pld_mmdet.language.impossible_distillation import ImpossibleDistillation
from pld_mmdet.language.learners.causal import CausalDistillation, CausalLanguageModel
from pld_mmdet.language.llkd import LLKD
from pld_mmdet.language.mend import MEND
from pld_mmdet.language.networks.elastic import ElasticEncoder
from pld_mmdet.language.networks.label_words import LabelWordClassifier
from pld_mmdet.language.networks.rankers import LabelRanker
from pld_mmdet.language.networks.transformers import (
    BidirectionalTransformer,
    CausalTransformer,
    EncoderTransformer,
    Seq2SeqTransformer,
)
from pld_mmdet.language.p4plm import P4PLM
from pld_mmdet.language.pd import PD
from pld_mmdet.language.scores.metrics import Spearman, TokenMeanMetric
from pld_mmdet.language.scores.pair_filters import EntailmentClassifier
from pld_mmdet.language.taid import TAID
from pld_mmdet.language.trans_encoder import TransEncoder

__all__ = [
    "FIRST",
    "I2D2",
    "LLKD",
    "MEND",
    "P4PLM",
    "PD",
    "TAID",
    "AlignedWords",
    "AnswerText",
    "AutoDistil",
    "BidirectionalTransformer",
    "CausalDistillation",
    "CausalLanguageModel",
    "CausalTransformer",
    "ChatText",
    "ConceptPairs",
    "CycleAlign",
    "DParallel",
    "Distiller",
    "ERNIETiny",
    "ElasticEncoder",
    "EncodedText",
    "EncoderTransformer",
    "Endings",
    "EntailmentClassifier",
    "FactWorld",
    "ImpossibleDistillation",
    "JointTransformer",
    "LabelRanker",
    "LabelWordClassifier",
    "MarkovSource",
    "MarkovText",
    "MeanOfWords",
    "PackedText",
    "PairText",
    "PooledTransformer",
    "PromptedText",
    "RandomMaps",
    "RewordingMetric",
    "RotatedWords",
    "RotatedWordsMetric",
    "Seq2SeqTransformer",
    "Spearman",
    "StatementMetric",
    "TaskText",
    "TextClassifier",
    "TextLines",
    "TokenMeanMetric",
    "ToneRanker",
    "TopicGrammar",
    "TransEncoder",
    "WorldDocuments",
    "WorldEntailment",
    "WorldPrompts",
    "WorldStatements",
]
