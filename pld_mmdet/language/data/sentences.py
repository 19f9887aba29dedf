"""Pairs of sentences: data, and networks that compare them side by side or jointly."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import one_of
from pld_mmdet.language.data.grammar import CLS, MASK, PAD, SEP
from pld_mmdet.language.data.text import EncodedText
from pld_mmdet.language.networks.transformers import build_transformer, fits
from pld_mmdet.registry import DATASETS, MODELS

_PARTS = {"train": 1, "val": 2, "test": 3, "corpus": 4}


@DATASETS.register_module()
class PairText(EncodedText):
    """``{"text": ..., "pair": ..., "label": 3.8}`` a line, each text for itself.

    A sample is ``first``, ``first_mask``, ``second``, ``second_mask`` [T], ``index``
    and, with a label, ``targets``.

    Args:
        both_orders: Every pair twice, the second time turned around; ``index`` is the
            pair's [once].
        **text: As :class:`EncodedText` has them; ``max_length`` is one text's.

    Raises:
        UserError: A line without a pair.
    """

    entry = {**EncodedText.entry, "pair": str}
    filled = ("text", "pair")

    def __init__(self, both_orders: bool = False, **text: Any) -> None:
        super().__init__(**text)
        self.both_orders = both_orders

    def __len__(self) -> int:
        return len(self.lines) * (2 if self.both_orders else 1)

    def __getitem__(self, index: int) -> dict:
        """The two texts as ids and masks [T]."""
        index, turned = _place(index, len(self.lines), len(self))
        first, second, label = self.lines[index]
        if turned:
            first, second = second, first
        sample = {"index": index}
        for name, text in (("first", first), ("second", second)):
            found = self.tokenizer(
                text, max_length=self.max_length, truncation=True, padding="max_length"
            )
            sample[name] = torch.tensor(found["input_ids"])
            sample[f"{name}_mask"] = torch.tensor(found["attention_mask"])
        if label is not None:
            sample["targets"] = torch.tensor(float(label))
        return sample


@DATASETS.register_module()
class ConceptPairs(Dataset):
    """Pairs of sentences of six concepts, each said by one of its synonyms.

    A sentence's concepts are those of a topic, so that which words are synonyms can be
    learnt from sentences alone. The true similarity of a pair is the share of concepts
    that both have, 0 to 1. Samples are those of :class:`PairText`; the part ``corpus``
    is read as ``sentences`` [size, T].

    Args:
        part: ``train``, ``val``, ``test`` or ``corpus``.
        size: Pairs.
        both_orders: As :class:`PairText` has it.
        concepts: Of the language.
        synonyms: Of each concept.
        topics: Of the language.
        focus: Dirichlet parameter of a topic's concepts.
        language_seed: Which language.

    Raises:
        UserError: Unknown part.
    """

    words = 6

    def __init__(
        self,
        part: str,
        size: int,
        both_orders: bool = False,
        concepts: int = 30,
        synonyms: int = 3,
        topics: int = 6,
        focus: float = 0.25,
        language_seed: int = 5,
    ) -> None:
        one_of("ConceptPairs", part=(part, tuple(_PARTS)))
        language = torch.Generator().manual_seed(language_seed)
        shape = torch.full((topics, concepts), focus)
        by_topic = torch._standard_gamma(shape, generator=language)
        by_topic = by_topic / by_topic.sum(1, keepdim=True) + 1e-2
        draws = torch.Generator().manual_seed(1000 * language_seed + _PARTS[part])
        n = self.words

        def topic() -> Tensor:
            return by_topic[torch.randint(topics, (size,), generator=draws)]

        def drawn(weights: Tensor) -> Tensor:
            return torch.multinomial(weights, n, generator=draws)

        def said(meant: Tensor) -> Tensor:
            how = torch.randint(synonyms, meant.shape, generator=draws)
            order = torch.rand(meant.shape, generator=draws).argsort(1)
            words = (MASK + 1 + meant * synonyms + how).gather(1, order)
            ends = torch.full((size, 1), CLS), torch.full((size, 1), SEP)
            return torch.cat([ends[0], words, ends[1]], 1)

        first = drawn(topic())
        kept = torch.randint(n + 1, (size,), generator=draws)
        # the others are concepts that the first sentence does not have
        other = drawn(topic().scatter(1, first, 0.0))
        second = torch.where(torch.arange(n) < kept[:, None], first, other)
        self.first, self.second = said(first), said(second)
        self.similarity = kept / n
        self.sentences = self.first
        self.vocab_size = MASK + 1 + concepts * synonyms
        self.both_orders, self.metainfo = both_orders, {}

    def __len__(self) -> int:
        return len(self.first) * (2 if self.both_orders else 1)

    def __getitem__(self, index: int) -> dict:
        index, turned = _place(index, len(self.first), len(self))
        pair = self.first[index], self.second[index]
        first, second = pair[::-1] if turned else pair
        return {
            "first": first,
            "first_mask": (first != PAD).long(),
            "second": second,
            "second_mask": (second != PAD).long(),
            "index": index,
            "targets": self.similarity[index],
        }


def _place(index: int, pairs: int, samples: int) -> tuple[int, bool]:
    """Number of the pair, and whether it is turned around."""
    if index >= samples:  # iteration ends here
        raise IndexError(index)
    return index % pairs, index >= pairs


@MODELS.register_module()
class PooledTransformer(nn.Module):
    """An encoder of transformers that makes one vector of a sentence.

    Args:
        config: See :func:`~pld_mmdet.language.networks.transformers.build_transformer`.
        pretrained: See there.
        pooling: ``cls``, the first token's state, or ``mean`` over the tokens.
    """

    def __init__(
        self,
        config: dict | None = None,
        pretrained: str | None = None,
        pooling: str = "cls",
    ) -> None:
        super().__init__()
        one_of("PooledTransformer", pooling=(pooling, ("cls", "mean")))
        self.body = build_transformer(
            "AutoModel", config, pretrained, fresh=("pooler",)
        )
        self.pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask [B, T] -> [B, D]."""
        h = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            return h[:, 0]
        mask = mask[..., None].to(h.dtype)
        return (h * mask).sum(1) / mask.sum(1).clamp(min=1)


@MODELS.register_module()
class JointTransformer(nn.Module):
    """An encoder of transformers that reads two sentences at once and gives one logit.

    The two are put together as the tokenizer would: the second's first token becomes
    ``between`` (RoBERTa's second </s>) or is left out (BERT, whose second sentence has
    token type 1).

    Args:
        config: See :func:`~pld_mmdet.language.networks.transformers.build_transformer`.
        pretrained: See there; the head may be new.
        between: Id of the token [left out].
    """

    def __init__(
        self,
        config: dict | None = None,
        pretrained: str | None = None,
        between: int | None = None,
    ) -> None:
        super().__init__()
        labels: dict = {"num_labels": 1}
        if config is not None:
            config, labels = {**config, **labels}, {}
        self.model = build_transformer(
            "AutoModelForSequenceClassification",
            config,
            pretrained,
            fresh=("classifier", "pooler"),
            **labels,
        )
        self.between = between

    @property
    def body(self) -> nn.Module:
        """The network without its head."""
        return self.model.base_model

    def forward(
        self, first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor
    ) -> Tensor:
        """Ids and masks [B, T] of both -> logits [B]."""
        second, second_mask = second.clone(), second_mask.clone()
        if self.between is None:
            second_mask[:, 0] = 0
        else:
            second[:, 0] = self.between
        ids, mask, types = joined(first, first_mask, second, second_mask)
        fits(ids, getattr(self.model.config, "max_position_embeddings", None))
        pad = self.model.config.pad_token_id or 0
        options = {}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            options["token_type_ids"] = types
        ids = ids.masked_fill(mask == 0, pad)
        return self.model(input_ids=ids, attention_mask=mask, **options).logits[:, 0]


def joined(
    first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Two sentences behind each other, the real tokens to the front.

    Args:
        first: Ids [B, T].
        first_mask: [B, T], 1 where a token is real.
        second: Ids [B, U].
        second_mask: [B, U].

    Returns:
        Ids, mask and types (0 of the first, 1 of the second) [B, T + U].
    """
    ids, mask = torch.cat([first, second], 1), torch.cat([first_mask, second_mask], 1)
    types = torch.zeros_like(ids)
    types[:, first.shape[1] :] = 1
    order = torch.argsort(mask, dim=1, descending=True, stable=True)
    ids, mask, types = (x.gather(1, order) for x in (ids, mask, types))
    return ids, mask, types * mask


def word_vectors(sentences: Tensor, vocab_size: int, width: int) -> Tensor:
    """Vectors [V, D] of words: SVD of their positive pointwise mutual information.

    Two words co-occur where they stand in one sentence.

    Args:
        sentences: Ids [N, T]; special ones (up to the mask's) are left out.
        vocab_size: V.
        width: D.
    """
    seen = torch.zeros(len(sentences), vocab_size)
    seen.scatter_(1, sentences, 1.0)
    seen[:, : MASK + 1] = 0
    both = (seen.T @ seen).double().numpy()
    np.fill_diagonal(both, 0)
    total, single = both.sum(), both.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(both * total / np.outer(single, single))
    left, value, _ = np.linalg.svd(np.nan_to_num(np.maximum(pmi, 0), posinf=0))
    return torch.from_numpy(left[:, :width] * np.sqrt(value[:width])).float()


class _Words(nn.Module):
    """An embedding that begins with the word vectors of a corpus."""

    def __init__(self, corpus: dict, width: int) -> None:
        super().__init__()
        data = DATASETS.build(corpus)
        vectors = word_vectors(data.sentences, data.vocab_size, width)
        self.body = nn.Embedding.from_pretrained(vectors, freeze=False)


@MODELS.register_module()
class MeanOfWords(_Words):
    """The mean of a sentence's word vectors.

    Args:
        corpus: Config of a data set with ``sentences`` and ``vocab_size``.
        width: Of a vector.
    """

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask [B, T] -> [B, D]."""
        real = ((ids > MASK) & (mask > 0)).float()[..., None]
        return (self.body(ids) * real).sum(1) / real.sum(1).clamp(min=1)


@MODELS.register_module()
class AlignedWords(_Words):
    """Each word of a sentence looks for its like in the other one.

    A word's vector, what it finds (softmax attention), and their product and distance
    go through a small network, whose mean over the words of both sentences is the
    logit.

    Args:
        corpus: As :class:`MeanOfWords` has it.
        width: Of a vector.
        hidden: Of the small network.
    """

    def __init__(self, corpus: dict, width: int, hidden: int = 32) -> None:
        super().__init__(corpus, width)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.read = nn.Sequential(
            nn.Linear(4 * width, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(
        self, first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor
    ) -> Tensor:
        """Ids and masks [B, T] of both -> logits [B]."""
        sides = [
            (self.body(ids), (ids > MASK) & (mask > 0))
            for ids, mask in ((first, first_mask), (second, second_mask))
        ]
        logit = 0
        for (ours, real), (theirs, other) in (sides, sides[::-1]):
            look = F.normalize(ours, dim=2) @ F.normalize(theirs, dim=2).mT
            look = (10 * self.scale * look).masked_fill(~other[:, None], -1e4)
            found = look.softmax(2) @ theirs
            seen = torch.cat([ours, found, ours * found, (ours - found).abs()], 2)
            value = self.read(seen).squeeze(2)
            logit = logit + (value * real).sum(1) / real.sum(1).clamp(min=1)
        return logit
