"""A toy language of endings in three tones, and a ranker that learns from examples."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pld_mmdet.errors import one_of
from pld_mmdet.registry import DATASETS, MODELS

_PARTS = {"train": 1, "val": 2, "test": 3}
PROMPT, ENDING, WORDS = 3, 2, 8  # tokens of each; words of prompts and of each tone
VOCABULARY = 4 * WORDS


@DATASETS.register_module()
class Endings(Dataset):
    """Prompts of 3 words, each with an ending of 2 in one tone: rude, neutral, polite.

    Ids: 8 words of prompts, then 8 of each tone. A sample is ``dict(input_ids=[5],
    index=number)``; tones are equally frequent.

    Args:
        part: ``train``, ``val`` or ``test``.
        size: Samples.
    """

    def __init__(self, part: str, size: int) -> None:
        one_of("Endings", part=(part, _PARTS))
        draws = torch.Generator().manual_seed(7000 + _PARTS[part])
        prompts = torch.randint(WORDS, (size, PROMPT), generator=draws)
        tones = WORDS * torch.randint(1, 4, (size, 1), generator=draws)
        endings = tones + torch.randint(WORDS, (size, ENDING), generator=draws)
        self.input_ids = torch.cat([prompts, endings], 1)
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": self.input_ids[index], "index": int(index)}


@MODELS.register_module()
class ToneRanker(nn.Module):
    """Ranks by politeness, each neighbouring pair wrongly with probability p.

    p = 0.35 - 0.30 x (share of the demonstrations that are in the right order): that
    examples help is built in, so it is no evidence that they do.
    """

    @staticmethod
    def judge(input_ids: Tensor) -> Tensor:
        """Politeness 0 to 1 of the endings of [..., 5]; 0 for words of prompts."""
        tones = input_ids[..., PROMPT:] // WORDS - 1
        return tones.clamp(min=0).float().mean(-1) / 2

    def forward(self, responses: Tensor, demonstrations: Tensor) -> Tensor:
        """Responses [n, 5], demonstrations [m, n, 5] -> order [n], best first."""
        right = 0.0
        if len(demonstrations):
            told = self.judge(demonstrations)
            right = float((told.diff(dim=1) <= 0).all(1).float().mean())
        order = self.judge(responses).argsort(descending=True, stable=True)
        for i in range(len(order) - 1):
            if float(torch.rand(())) < 0.35 - 0.30 * right:
                order[[i, i + 1]] = order[[i + 1, i]]
        return order
