"""Absorbing diffusion of token sequences, and a language whose scores are exact.

A sequence is [N, L] of token numbers; ``V`` stands for a token that is still masked. At
time t a token is masked with probability (1 - e) t (log-linear noise). The score of a
masked position is the ratio p(token) / p(masked), [N, L, V].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.data import Dataset

from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.registry import DATASETS, METRICS, MODELS


def rate(t: Tensor | float, e: float = 1e-3) -> Tensor | float:
    """sigma(t) = (1 - e) / (1 - (1 - e) t), at which tokens are masked."""
    return (1 - e) / (1 - (1 - e) * t)


def odds(t: Tensor | float, e: float = 1e-3) -> Tensor | float:
    """exp(sbar(t)) - 1 = masked / unmasked; probabilities over it are scores."""
    masked = (1 - e) * t
    return masked / (1 - masked)


@MODELS.register_module()
class RingLanguage(nn.Module):
    """Exact scores of sequences whose next token is the same or one more, mod V.

    The first token is uniform, each step is +0 or +1 with equal probability, so
    p(token | what is revealed) comes from forward-backward sums: no training, no error.

    Args:
        tokens: V.
        length: L.
    """

    def __init__(self, tokens: int = 6, length: int = 12) -> None:
        super().__init__()
        step = 0.5 * (torch.eye(tokens) + torch.eye(tokens).roll(1, 1))
        self.register_buffer("step", step, persistent=False)
        self.tokens, self.length = tokens, length

    def probabilities(self, x: Tensor) -> Tensor:
        """p(token at i | revealed tokens of x), [N, L] -> [N, L, V].

        A sequence that breaks the rule has probability 0; its positions are uniform.
        """
        known = torch.nn.functional.one_hot(x.clamp(max=self.tokens - 1), self.tokens)
        seen = torch.where((x == self.tokens)[..., None], 1.0, known.to(self.step))
        forward, backward = [seen[:, 0]], [torch.ones_like(seen[:, 0])]
        for i in range(1, x.shape[1]):
            forward.append(forward[-1] @ self.step * seen[:, i])
            j = x.shape[1] - i
            backward.append((backward[-1] * seen[:, j]) @ self.step.T)
        joint = torch.stack(forward, 1) * torch.stack(backward[::-1], 1)
        mass = joint.sum(-1, keepdim=True)
        uniform = torch.full_like(joint, 1 / self.tokens)
        return torch.where(mass > 0, joint / mass.clamp(min=1e-30), uniform)

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Scores [N, L, V] of [N, L] at time t in (0, 1]."""
        return self.probabilities(x) / odds(t)


class ScoreNetwork(nn.Module):
    """A network ``(x [N, L], t) -> scores [N, L, V]`` that has to be trained.

    Attributes:
        untrained: Its weights are random: none were named, and none loaded since.
    """

    untrained = True

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if any(name.startswith(prefix) for name in state_dict):
            self.untrained = False


@MODELS.register_module()
class MaskedLMScore(ScoreNetwork):
    """A masked language model of transformers as a score network.

    Absorbing diffusion needs no time: the score is p(token | revealed tokens) divided
    by :func:`odds` of t (RADD, Ou et al. 2024). The last word of the vocabulary is the
    mask. RADD's and SEDD's own folders are none of transformers: ``DDiTScore``.

    Args:
        pretrained: Folder or hub name with safetensors weights [random weights, which
            teach nothing].
        kwargs: Of ``BertConfig`` (``vocab_size``, ``hidden_size``, ...), without
            ``pretrained``.

    Raises:
        UserError: The folder is not one of transformers'.
    """

    def __init__(self, pretrained: str | None = None, **kwargs) -> None:
        super().__init__()
        library = require("transformers", "language")
        self.untrained = pretrained is None
        if pretrained is None:
            self.model = library.BertForMaskedLM(library.BertConfig(**kwargs))
        else:
            _check_folder(Path(pretrained))
            self.model = library.AutoModelForMaskedLM.from_pretrained(
                pretrained, use_safetensors=True, **kwargs
            )
        self.tokens = self.model.config.vocab_size - 1

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Scores [N, L, V] of [N, L] at time t in (0, 1]."""
        logits = self.model(input_ids=x).logits[..., :-1]
        return logits.float().softmax(-1) / odds(t)


def _check_folder(folder: Path) -> None:
    """Refuse what transformers would not know; hub names pass."""
    file = folder / "config.json"
    if not folder.is_dir():
        return
    if "model_type" not in read_json(file, {}, "transformers' config"):
        raise UserError(
            f"{file} has no model_type: the folder is not one of transformers'.",
            "SEDD's and RADD's are read by dict(type='pld_mmdet.DDiTScore', "
            "pretrained=...).",
        )


def euler_step(x: Tensor, move: Tensor, dice: torch.Generator | None) -> Tensor:
    """Unmask tokens: masked position i becomes y with probability ``move[..., y]``.

    Args:
        x: [N, L]; V is masked.
        move: Step x rate x score, [N, L, V]; where its sum exceeds 1 it is scaled to 1.
        dice: Of the draws [the global ones].

    Returns:
        [N, L]; what was revealed stays.
    """
    tokens = move.shape[-1]
    total = move.sum(-1, keepdim=True)
    move = move / total.clamp(min=1.0)
    reach = move.cumsum(-1)
    u = torch.rand(x.shape, generator=dice, device=x.device)[..., None]
    drawn = (reach <= u).sum(-1)  # V: no threshold was passed, so it stays masked
    return torch.where(x == tokens, drawn, x)


def reveal(x: Tensor, probabilities: Tensor, dice: torch.Generator | None) -> Tensor:
    """Draw all masked tokens of [N, L] at once from [N, L, V], each on its own."""
    sure = probabilities / probabilities.sum(-1, keepdim=True)
    reach = sure.cumsum(-1)
    u = torch.rand(x.shape, generator=dice, device=x.device)[..., None]
    drawn = (reach[..., :-1] <= u).sum(-1)
    return torch.where(x == probabilities.shape[-1], drawn, x)


@DATASETS.register_module()
class MaskedStarts(Dataset):
    """``size`` fully masked sequences: ``dict(inputs=[L] of V, index=number)``.

    Args:
        tokens: V.
        length: L.
        size: How many.
    """

    def __init__(self, tokens: int = 6, length: int = 12, size: int = 4096) -> None:
        if min(tokens, length, size) < 1:
            raise UserError(
                f"MaskedStarts: tokens={tokens}, length={length}, size={size}.",
                "All of them are at least 1.",
            )
        self.start, self.size = torch.full((length,), tokens), size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict:
        return {"inputs": self.start.clone(), "index": int(index)}


@METRICS.register_module()
class RingViolations(BaseMetric):
    """Share of neighbours that break the rule of :class:`RingLanguage`.

    ``violations`` in [0, 1], small is good; ``final_share``: tokens that the last call
    of the network revealed at once, where a sampler reports them.
    """

    default_prefix = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep sums of a batch."""
        for sample in data_samples:
            x, tokens = sample["samples"].cpu().numpy(), int(sample["tokens"])
            jump = np.diff(x, axis=1) % tokens
            late = sample.get("final_share")
            self.results.append(
                (
                    float((jump > 1).sum()),
                    jump.size,
                    float(late) * len(x) if late is not None else 0.0,
                    len(x),
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Both shares."""
        broken, pairs, late, rows = np.sum(np.array(results), axis=0)
        return {"violations": broken / pairs, "final_share": late / rows}
