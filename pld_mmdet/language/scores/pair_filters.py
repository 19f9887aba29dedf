"""Which two sentences say the same in other words."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.lines import build_tokenizer
from pld_mmdet.registry import MODELS

#: (premises, hypotheses) -> [n, 2]: P(entailment), and 1 where it is the arg max.
Entails = Callable[[list[str], list[str]], Tensor]


@dataclass
class Pair:
    """Two sentences, their places among the candidates, and scores of the filters."""

    source: str
    target: str
    places: tuple[int, int]
    back: float = 1.0  # P(target entails source)
    overlap: float = 0.0  # ROUGE-L
    context: str = ""

    def as_dict(self) -> dict:
        """A line of a file of pairs."""
        return dict(source=self.source, target=self.target, context=self.context) | (
            dict(rouge_l=self.overlap, entails_back=self.back)
        )


@dataclass(frozen=True)
class PairFilter:
    """The filters of Impossible Distillation, in their order.

    Length in characters; entailment forwards, then backwards; one pair of each group of
    sources that entail each other, then of targets; the same numbers; ROUGE-L.

    Args:
        length: Least and most |target| / |source|, both allowed [.8, 1.5, code].
        entailment: Least probability, both ways [.75, code].
        rouge: Most ROUGE-L, allowed [.75, code].
    """

    length: tuple[float, float] = (0.8, 1.5)
    entailment: float = 0.75
    rouge: float = 0.75

    @staticmethod
    def candidates(texts: Sequence[str], source: str | None = None) -> list[Pair]:
        """All pairs i < j of texts, or a source with each of them."""
        if source is not None:
            return [Pair(source, text, (0, i)) for i, text in enumerate(texts)]
        places = combinations(range(len(texts)), 2)
        return [Pair(texts[i], texts[j], (i, j)) for i, j in places]

    def bootstrap(
        self, texts: Sequence[str], entails: Entails, counts: Counter
    ) -> list[Pair]:
        """What is left of the pairs of one context; ``counts`` is added to."""
        pairs = self._alike(self.candidates(texts), entails, counts)
        pairs = self._distinct(self._distinct(pairs, entails, 0), entails, 1)
        counts["distinct"] += len(pairs)
        return self._reworded(pairs, counts)

    def refine(
        self, source: str, texts: Sequence[str], entails: Entails, counts: Counter
    ) -> list[Pair]:
        """At most one pair of one source: that with the least ROUGE-L."""
        pairs = self._alike(self.candidates(texts, source), entails, counts)
        pairs = self._reworded(pairs, counts)
        return [min(pairs, key=lambda pair: pair.overlap)] if pairs else []

    def accepts(self, source: str, target: str, entails: Entails) -> bool:
        """Whether one pair passes all filters but that for duplicates."""
        return bool(self.refine(source, [target], entails, Counter()))

    def _alike(self, pairs: list[Pair], entails: Entails, counts: Counter):
        counts["all"] += len(pairs)
        least, most = self.length
        pairs = [
            pair
            for pair in pairs
            if least * len(pair.source) <= len(pair.target) <= most * len(pair.source)
        ]
        counts["length"] += len(pairs)
        there = _asked(entails, pairs, lambda p: (p.source, p.target))
        pairs = [p for p, s in zip(pairs, there, strict=True) if s >= self.entailment]
        back = _asked(entails, pairs, lambda p: (p.target, p.source))
        for pair, score in zip(pairs, back, strict=True):
            pair.back = score
        pairs = [pair for pair in pairs if pair.back >= self.entailment]
        counts["entailment"] += len(pairs)
        return pairs

    @staticmethod
    def _distinct(pairs: list[Pair], entails: Entails, side: int) -> list[Pair]:
        """Of each group of alike sources (targets) the pair least entailed back."""
        if len(pairs) < 2:
            return pairs
        texts = {p.places[side]: (p.source, p.target)[side] for p in pairs}
        places = list(texts)
        ordered = [(i, j) for i in places for j in places if i != j]
        edges = torch.zeros(len(places), len(places), dtype=torch.bool)
        if ordered:
            first = [texts[i] for i, _ in ordered]
            second = [texts[j] for _, j in ordered]
            joined = entails(first, second)[:, 1].bool()
            for (i, j), one in zip(ordered, joined.tolist(), strict=True):
                edges[places.index(i), places.index(j)] = one
        group = dict(zip(places, duplicate_groups(edges).tolist(), strict=True))
        best: dict[int, Pair] = {}
        for pair in pairs:
            own = group[pair.places[side]]
            if own not in best or pair.back < best[own].back:
                best[own] = pair
        return [best[number] for number in sorted(best)]

    def _reworded(self, pairs: list[Pair], counts: Counter) -> list[Pair]:
        pairs = [p for p in pairs if numbers(p.source) == numbers(p.target)]
        counts["numbers"] += len(pairs)
        for pair in pairs:
            pair.overlap = rouge_l(words(pair.source), words(pair.target))
        pairs = [pair for pair in pairs if pair.overlap <= self.rouge]
        counts["ROUGE-L"] += len(pairs)
        return pairs


def _asked(entails: Entails, pairs: list[Pair], sides: Callable) -> list[float]:
    if not pairs:
        return []
    first, second = zip(*map(sides, pairs), strict=True)
    return entails(list(first), list(second))[:, 0].tolist()


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """F measure of the longest common subsequence of two lists of words.

    Args:
        a: Words.
        b: Words.

    Returns:
        ``2 LCS / (len(a) + len(b))``: precision and recall weigh alike [rouge-score];
        0 if one is empty.

    Raises:
        UserError: A text where a list of words belongs.
    """
    if isinstance(a, str) or isinstance(b, str):
        raise UserError(
            "rouge_l was given a text.", "Give lists of words: text.split()."
        )
    row = [0] * (len(b) + 1)
    for one in a:
        before, row = row, [0]
        for j, other in enumerate(b):
            longest = before[j] + 1 if one == other else max(before[j + 1], row[j])
            row.append(longest)
    return 2 * row[-1] / (len(a) + len(b)) if len(a) and len(b) else 0.0


def duplicate_groups(entails: Tensor) -> Tensor:
    """Which texts are joined by entailment, in either direction, through others too.

    Args:
        entails: [n, n] bool; row: premise, column: hypothesis. The diagonal is not
            looked at.

    Returns:
        [n] int64, the group of each, numbered in the order of their first member.

    Raises:
        UserError: Not square.
    """
    if entails.dim() != 2 or entails.shape[0] != entails.shape[1]:
        raise UserError(
            f"duplicate_groups: {tuple(entails.shape)} is not [n, n].",
            "Give one row and one column of each text.",
        )
    n = len(entails)
    joined = entails.bool() | entails.bool().T | torch.eye(n, dtype=torch.bool)
    first = torch.arange(n)
    while True:  # the least member that can be reached
        reached = torch.where(joined, first[None], n).amin(1) if n else first
        if torch.equal(reached, first):
            return first.unique(return_inverse=True)[1]
        first = reached


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits, as rouge-score splits a text."""
    return re.findall(r"[^\W_]+", text.lower())


def numbers(text: str) -> set[str]:
    """Numbers that are written in digits."""
    return {one.rstrip(".,") for one in re.findall(r"\d[\d.,]*", text)}


def sentences(text: str) -> list[str]:
    """Sentences of a text; the last one may have no end."""
    found = re.split(r"(?<=[.?!])\s+", text.strip())
    return [one.strip() for one in found if one.strip()]


def full_sentence(text: str) -> bool:
    """At least three characters, an end, and no line break (code)."""
    return len(text) >= 3 and text[-1] in ".?!" and "\n" not in text


@MODELS.register_module()
class EntailmentClassifier(nn.Module):
    """An NLI model of transformers: texts in, probabilities out.

    Args:
        network: Config of an :class:`EncoderTransformer`, SequenceClassification.
        tokenizer: Folder or hub name.
        entailment: Its class [1: roberta-large-wanli, code].
        max_length: Tokens of both texts [512, code].
        batch: Pairs at a time [64; code: 2048].
    """

    def __init__(
        self,
        network: dict,
        tokenizer: str,
        entailment: int = 1,
        max_length: int = 512,
        batch: int = 64,
    ) -> None:
        super().__init__()
        self.network = MODELS.build(network)
        self.tokenizer = build_tokenizer(tokenizer)
        self.entailment, self.max_length, self.batch = entailment, max_length, batch

    def forward(self, premises: list[str], hypotheses: list[str]) -> Tensor:
        """Probabilities [n, classes]."""
        device = next(self.network.parameters()).device
        found = []
        for place in range(0, len(premises), self.batch):
            read = self.tokenizer(
                premises[place : place + self.batch],
                hypotheses[place : place + self.batch],
                truncation=True,
                max_length=self.max_length,
                padding=True,
                return_tensors="pt",
            ).to(device)
            logits = self.network(read["input_ids"], read["attention_mask"])
            found.append(logits.float().softmax(-1))
        return torch.cat(found) if found else torch.zeros(0, 3)
