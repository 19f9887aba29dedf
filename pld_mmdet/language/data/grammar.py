"""A synthetic language with topics and synonyms, for text classification."""

import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import one_of
from pld_mmdet.language.learners.causal import IGNORE
from pld_mmdet.registry import DATASETS

PAD, CLS, SEP, MASK = range(4)  # word ids begin at 4
# Each part has its own random stream; the language itself is another one.
_PARTS = {"general": 1, "task": 2, "val": 3, "test": 4}


@DATASETS.register_module()
class TopicGrammar(Dataset):
    """Sentences of words that mean senses that belong to topics.

    A sentence has a topic; each of its words is a sense drawn from the topic's
    distribution, spoken as one of the sense's synonyms, all equally likely. Which
    words are synonyms can be learnt from sentences without labels; few labels show
    only few of the words. A sample is ``dict(input_ids=[T], attention_mask=[T])``,
    outside the general part with ``targets``, the topic.

    Args:
        part: ``general`` (no labels), ``task`` (to learn from), ``val`` or ``test``.
        size: Sentences.
        topics: Classes.
        senses: Meanings that a word can have.
        synonyms: Words of one sense.
        words: Words of the longest sentence; lengths are uniform from half of it.
        focus: Dirichlet parameter of a topic's senses: small is easy to tell apart.
        language_seed: Which language.
        indexed: Samples carry their number, ``index``.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        topics: int = 6,
        senses: int = 24,
        synonyms: int = 8,
        words: int = 12,
        focus: float = 0.5,
        language_seed: int = 11,
        indexed: bool = False,
    ) -> None:
        one_of("TopicGrammar", part=(part, _PARTS))
        language = torch.Generator().manual_seed(language_seed)
        # normalised gamma draws are Dirichlet; a gamma generator would be global
        shape = torch.full((topics, senses), focus)
        by_topic = torch._standard_gamma(shape, generator=language)
        draws = torch.Generator().manual_seed(1000 * language_seed + _PARTS[part])
        topic = torch.randint(topics, (size,), generator=draws)
        sense = torch.multinomial(
            by_topic[topic] + 1e-6, words, replacement=True, generator=draws
        )
        spoken = torch.randint(synonyms, sense.shape, generator=draws)
        length = torch.randint(words // 2, words + 1, (size,), generator=draws)
        ids = torch.full((size, words + 2), PAD)
        ids[:, 0] = CLS
        ids[:, 1:-1] = MASK + 1 + sense * synonyms + spoken
        place = torch.arange(words + 2)
        ids[place > length[:, None]] = PAD
        ids[torch.arange(size), length + 1] = SEP
        self.input_ids, self.topic = ids, topic
        self.vocab_size = MASK + 1 + senses * synonyms
        self.labelled, self.indexed = part != "general", indexed
        self.metainfo = {"classes": tuple(f"topic {i}" for i in range(topics))}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        ids = self.input_ids[index]
        sample = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
        if self.labelled:
            sample["targets"] = self.topic[index]
        if self.indexed:
            sample["index"] = index
        return sample


def mask_words(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    vocab_size: int,
    mask_id: int,
    first_word: int,
    probability: float = 0.15,
) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's corruption: of 15 % words 80 % become the mask, 10 % another, 10 % stay.

    Draws from torch's global stream, which the run seeds for every iteration.

    Args:
        input_ids: [B, T].
        attention_mask: [B, T].
        vocab_size: Random words are below it.
        mask_id: The mask's id.
        first_word: Ids below are special and never chosen.
        probability: Share of words that are to be predicted.

    Returns:
        Corrupted ids and labels [B, T], -100 where nothing is to be predicted.
    """
    usable = (attention_mask > 0) & (input_ids >= first_word)
    draw = torch.rand(input_ids.shape, device=input_ids.device)
    chosen = usable & (draw < probability)
    labels = torch.where(chosen, input_ids, IGNORE)
    how = torch.rand(input_ids.shape, device=input_ids.device)
    other = torch.randint_like(input_ids, first_word, vocab_size)
    ids = torch.where(chosen & (how < 0.9), other, input_ids)
    return torch.where(chosen & (how < 0.8), mask_id, ids), labels
