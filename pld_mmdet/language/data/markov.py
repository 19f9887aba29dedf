"""A synthetic language whose true distribution is known: an order-2 Markov source."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.errors import one_of
from pld_mmdet.language.learners.causal import IGNORE
from pld_mmdet.registry import DATASETS, MODELS

# Each part has its own random stream; the source itself is another one.
_PARTS = {"train": 1, "val": 2, "test": 3}


def markov_logits(vocab_size: int, sharpness: float, source_seed: int) -> Tensor:
    """Logits [V, V, V] of the next token given the last two: normal, times sharpness.

    Args:
        vocab_size: V.
        sharpness: 0 is the uniform source; at 3 a context has a handful of likely
            followers.
        source_seed: Which source.
    """
    generator = torch.Generator().manual_seed(source_seed)
    return sharpness * torch.randn((vocab_size,) * 3, generator=generator)


@MODELS.register_module()
class MarkovSource(nn.Module):
    """The source as a network: a teacher that is exactly right.

    Args:
        vocab_size: V.
        sharpness: See :func:`markov_logits`.
        source_seed: Must be the data's.
    """

    logits: Tensor

    def __init__(
        self, vocab_size: int = 32, sharpness: float = 3.0, source_seed: int = 7
    ) -> None:
        super().__init__()
        table = markov_logits(vocab_size, sharpness, source_seed)
        self.register_buffer("logits", table)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Ids [B, T] -> logits [B, T, V]; position 0 sees token 0 as its past."""
        before = F.pad(input_ids[:, :-1], (1, 0))
        return self.logits[before, input_ids]


@DATASETS.register_module()
class MarkovText(Dataset):
    """Sequences drawn from the source; the two first tokens are uniform.

    A sample is ``dict(input_ids=[T], labels=[T])``; the first two labels are -100.

    Args:
        part: ``train``, ``val`` or ``test``: different draws from the same source.
        size: Sequences.
        length: Tokens T of one.
        vocab_size: V.
        sharpness: See :func:`markov_logits`.
        source_seed: Which source.

    Raises:
        UserError: Unknown part.
    """

    def __init__(
        self,
        part: str,
        size: int,
        length: int = 64,
        vocab_size: int = 32,
        sharpness: float = 3.0,
        source_seed: int = 7,
    ) -> None:
        one_of("MarkovText", part=(part, _PARTS))
        p = markov_logits(vocab_size, sharpness, source_seed).softmax(-1)
        draws = torch.Generator().manual_seed(1000 * source_seed + _PARTS[part])
        ids = torch.randint(vocab_size, (size, length), generator=draws)
        for t in range(2, length):
            follow = p[ids[:, t - 2], ids[:, t - 1]]
            ids[:, t] = torch.multinomial(follow, 1, generator=draws).squeeze(1)
        self.input_ids = ids
        self.labels = ids.clone()
        self.labels[:, :2] = IGNORE
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": self.input_ids[index], "labels": self.labels[index]}
