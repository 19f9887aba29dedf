"""A small world of facts: a truth table, words with synonyms, and who can read them."""

import re
from collections.abc import Iterable, Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS, METRICS, MODELS

_PARTS = {"train": 1, "val": 2, "test": 3}
_SPECIAL = ("<pad>", "<s>", "</s>", ".")
# Kinds of words by a letter, and how many senses each has. Function words have one.
KINDS = {
    "q": ("quantifier", 1),
    "c": ("concept", 30),
    "r": ("relation", 1),
    "p": ("property", 12),
    "l": ("preposition", 1),
    "w": ("place", 10),
    "o": ("when", 1),
    "t": ("time", 8),
    "n": ("negation", 1),
    "x": ("connective", 1),
    "f": ("filler", 12),
}
REPORT = "qcrplwot"  # the eight words of a report
_MEANT = [REPORT.index(kind) for kind in "cpwt"]  # those that say what it says


@MODELS.register_module()
class FactWorld:
    """Words, a truth table, and a tokenizer of one id a word.

    A *statement* is "quantifier concept relation property": true or false by
    ``truth`` [30, 12]. A *report* goes on with "preposition place when time". Every
    sense has synonyms, all equally likely. Words are spelled in 2 to 4 syllables.

    Args:
        synonyms: Words of one sense.
        share: Of the table that is true.
        kinds: Concepts are of so many kinds, which share their properties up to one in
            twenty, so that a reader of some facts can guess others [every fact is
            drawn for itself].
        world_seed: Which world.
    """

    pad_token_id, bos_token_id, eos_token_id, period = range(4)

    def __init__(
        self,
        synonyms: int = 3,
        share: float = 0.4,
        kinds: int | None = None,
        world_seed: int = 5,
    ) -> None:
        draws = torch.Generator().manual_seed(world_seed)
        self.synonyms = synonyms
        self._known: dict[str, tuple[int, ...] | None] = {}
        self.first: dict[str, int] = {}
        words = list(_SPECIAL)
        for kind, (_, senses) in KINDS.items():
            self.first[kind] = len(words)
            while len(words) < self.first[kind] + senses * synonyms:
                word = _spelled(draws)
                if word not in words:
                    words.append(word)
        self.words, self.ids = words, {word: i for i, word in enumerate(words)}
        self.kinds = "_" * len(_SPECIAL) + "".join(
            kind * (senses * synonyms) for kind, (_, senses) in KINDS.items()
        )
        table = torch.rand(KINDS["c"][1], KINDS["p"][1], generator=draws)
        self.truth = table < share
        if kinds is not None:
            own = torch.arange(len(table)) % kinds
            flipped = torch.rand(table.shape, generator=draws) < 0.05
            self.truth = self.truth[own] ^ flipped

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str, **_) -> list[int]:
        """One id a word; an unknown word is a user's mistake."""
        try:
            return [self.ids[word] for word in text.split()]
        except KeyError as error:
            raise UserError(
                f"FactWorld has no word {error.args[0]!r}.",
                "Give it its own texts, and the same world_seed everywhere.",
            ) from None

    def decode(self, ids: Iterable[int] | Tensor, **_) -> str:
        """Words up to the end token, without padding."""
        found = []
        for one in torch.as_tensor(ids).tolist():
            if one == self.eos_token_id:
                break
            if one > self.eos_token_id:
                found.append(self.words[one])
        return " ".join(found)

    def say(self, kinds: str, senses: dict[str, int], draws: torch.Generator) -> str:
        """Words of these kinds, each a synonym of its sense [the first sense]."""
        spoken = torch.randint(self.synonyms, (len(kinds),), generator=draws).tolist()
        words = (
            self.words[self.first[kind] + senses.get(kind, 0) * self.synonyms + one]
            for kind, one in zip(kinds, spoken, strict=True)
        )
        return " ".join(words)

    def read(self, text: str, pattern: str = REPORT) -> tuple[int, ...] | None:
        """Senses of the words that match a pattern of kinds, or None.

        Args:
            text: Words; a final period is not looked at.
            pattern: Regular expression over the letters of ``KINDS``.

        Returns:
            The sense of each word.
        """
        ids = [self.ids.get(word, 0) for word in text.removesuffix(".").split()]
        kinds = "".join(self.kinds[one] for one in ids)
        if not re.fullmatch(pattern, kinds):
            return None
        return tuple(
            (one - self.first[kind]) // self.synonyms
            for one, kind in zip(ids, kinds, strict=True)
        )

    def facts(self, text: str) -> tuple[int, ...] | None:
        """Concept, property, place and time of a report; None if it is none."""
        if text not in self._known:
            senses = self.read(text)
            self._known[text] = senses and tuple(senses[i] for i in _MEANT)
        return self._known[text]


def _spelled(draws: torch.Generator) -> str:
    count = int(torch.randint(2, 5, (), generator=draws))
    places = torch.randint(60, (count,), generator=draws).tolist()
    return "".join("bdfgklmnprst"[i % 12] + "aeiou"[i // 12] for i in places)


def words_of(letters: str, synonyms: int = 3, world_seed: int = 5, **_) -> list[str]:
    """All words of some kinds, for the constraints of a config."""
    world = FactWorld(synonyms=synonyms, world_seed=world_seed)
    return [w for w, k in zip(world.words, world.kinds, strict=True) if k in letters]


@DATASETS.register_module()
class WorldDocuments(Dataset):
    """Reports of true facts; documents of two: one, and often the same re-worded.

    A sample is ``dict(text=..., index=number)``.

    Args:
        part: ``train``, ``val`` or ``test``: different draws.
        size: Samples.
        documents: Two reports each [one].
        again: Share of documents whose second report says the first again; others say
            something else.
        **world: For :class:`FactWorld`.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        documents: bool = False,
        again: float = 0.6,
        **world,
    ) -> None:
        draws = part_stream("WorldDocuments", part, world.get("world_seed", 5))
        world = FactWorld(**world)
        self.texts = []
        for _ in range(size):
            fact = _drawn(world, draws)
            text = f"{world.say(REPORT, fact, draws)} ."
            if documents:
                if float(torch.rand((), generator=draws)) >= again:
                    fact = _drawn(world, draws)
                text += f" {world.say(REPORT, fact, draws)} ."
            self.texts.append(text)
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict:
        return {"text": self.texts[index], "index": int(index)}


def part_stream(owner: str, part: str, seed: int) -> torch.Generator:
    """The random stream of one part of a data set of a world.

    Raises:
        UserError: Unknown part.
    """
    one_of(owner, part=(part, _PARTS))
    return torch.Generator().manual_seed(1000 * seed + _PARTS[part])


def _drawn(world: FactWorld, draws: torch.Generator) -> dict[str, int]:
    true = world.truth.nonzero()
    c, p = true[int(torch.randint(len(true), (), generator=draws))].tolist()
    place, time = (
        int(torch.randint(KINDS[kind][1], (), generator=draws)) for kind in "wt"
    )
    return {"c": c, "p": p, "w": place, "t": time}


@MODELS.register_module()
class WorldEntailment:
    """An oracle in place of an NLI model: reports of the same facts entail each other.

    Args:
        **world: For :class:`FactWorld`.
    """

    entailment = 1

    def __init__(self, **world) -> None:
        self.world = FactWorld(**world)

    def __call__(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Tensor:
        """Probabilities [n, 3] of (contradiction, entailment, neutral)."""
        same = [
            self.world.facts(a) is not None
            and self.world.facts(a) == self.world.facts(b)
            for a, b in zip(premises, hypotheses, strict=True)
        ]
        return torch.eye(3)[[1 if one else 2 for one in same]].view(-1, 3)


@METRICS.register_module()
class RewordingMetric(BaseMetric):
    """Whether a report is said again, and in other words.

    ``preservation``: the share of outputs that state the facts of their source;
    ``novelty``: 1 - the share of an output's words that stand in its source, mean;
    ``reworded``: the mean of the product of both, output by output.

    Args:
        world: For :class:`FactWorld`.
    """

    default_prefix = None

    def __init__(self, world: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.world = FactWorld(**(world or {}))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """``sources`` and ``outputs`` of a batch, texts."""
        for sample in data_samples:
            for source, output in zip(
                sample["sources"], sample["outputs"], strict=True
            ):
                facts = self.world.facts(source)
                kept = facts is not None and facts == self.world.facts(output)
                told = [word for word in output.split() if word != "."]
                copied = sum(word in source.split() for word in told)
                new = 1 - copied / len(told) if told else 0.0
                self.results.append((float(kept), new))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Means over the outputs."""
        kept, new = torch.tensor(results, dtype=torch.float64).T
        return {
            "preservation": float(kept.mean()),
            "novelty": float(new.mean()),
            "reworded": float((kept * new).mean()),
        }


STATEMENT = "qcrn?p(xff)?"  # negated or not, with a filler clause or without


def statement(world: FactWorld, text: str) -> tuple[int, int, bool] | None:
    """Concept, property and whether what a statement says of them is true."""
    senses = world.read(text, STATEMENT)
    if senses is None:
        return None
    negated = world.kinds[world.ids[text.split()[3]]] == "n"
    concept, told = senses[1], senses[4 if negated else 3]
    return concept, told, bool(world.truth[concept, told]) != negated


@DATASETS.register_module()
class WorldStatements(Dataset):
    """Statements, true or not, in a corpus or with labels.

    A sample is ``dict(text=..., index=number)``, with labels also ``targets``, 1 for
    true.

    Args:
        part: ``train``, ``val`` or ``test``: different draws.
        size: Samples.
        true: Share of true ones.
        negated: Share of statements with a negation.
        filler: Share with a filler clause behind them.
        labelled: Whether there are labels.
        **world: For :class:`FactWorld`.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        true: float = 0.55,
        negated: float = 0.2,
        filler: float = 0.5,
        labelled: bool = False,
        **world,
    ) -> None:
        draws = part_stream("WorldStatements", part, world.get("world_seed", 5))
        world, self.labelled = FactWorld(**world), labelled
        self.samples = []
        for _ in range(size):
            right, not_, more = torch.rand(3, generator=draws).tolist()
            right, not_, more = right < true, not_ < negated, more < filler
            table = (world.truth if right != not_ else ~world.truth).nonzero()
            c, p = table[int(torch.randint(len(table), (), generator=draws))].tolist()
            kinds = "qcrnp" if not_ else "qcrp"
            text = world.say(kinds, {"c": c, "p": p}, draws)
            if more:
                fillers = torch.randint(KINDS["f"][1], (2,), generator=draws).tolist()
                told = [world.say("f", {"f": one}, draws) for one in fillers]
                text = " ".join([text, world.say("x", {}, draws), *told])
            self.samples.append((text, int(right)))
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        text, right = self.samples[index]
        sample = {"text": text, "index": int(index)}
        return {**sample, "targets": right} if self.labelled else sample


@DATASETS.register_module()
class WorldPrompts(Dataset):
    """Beginnings of statements, "quantifier concept relation", every concept in turn.

    A sample is ``dict(text=..., concept=its synonyms, index=number)``.

    Args:
        part: ``train``, ``val`` or ``test``: different draws of the words.
        size: Samples.
        **world: For :class:`FactWorld`.

    Raises:
        UserError: Unknown part.
    """

    def __init__(self, part: str, size: int, **world) -> None:
        draws = part_stream("WorldPrompts", part, world.get("world_seed", 5))
        world = FactWorld(**world)
        self.samples = []
        for i in range(size):
            c = i % KINDS["c"][1]
            first = world.first["c"] + c * world.synonyms
            own = world.words[first : first + world.synonyms]
            self.samples.append((world.say("qcr", {"c": c}, draws), " ".join(own)))
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        text, concept = self.samples[index]
        return {"text": text, "concept": concept, "index": int(index)}


@METRICS.register_module()
class StatementMetric(BaseMetric):
    """How many statements are true, and how many of the world's facts they name.

    ``truth``: share of true statements among all texts (one that cannot be read is
    false); ``recall``: distinct (concept, property) of true statements without a
    negation, over all that are true in the world; ``statements``: their number.

    Args:
        world: For :class:`FactWorld`.
    """

    default_prefix = None

    def __init__(self, world: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.world = FactWorld(**(world or {}))

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """``texts`` of a batch."""
        self.results.append([one for sample in data_samples for one in sample["texts"]])

    def compute_metrics(self, results: list[list[str]]) -> dict[str, float]:
        """Of all texts."""
        texts = [text for part in results for text in part]
        told = [statement(self.world, text) for text in texts]
        true = [one for one in told if one is not None and one[2]]
        facts = {one[:2] for one in true if self.world.truth[one[:2]]}
        return {
            "truth": len(true) / max(len(texts), 1),
            "recall": len(facts) / int(self.world.truth.sum()),
            "statements": float(len(texts)),
        }
