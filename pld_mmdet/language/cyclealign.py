"""CycleAlign: a language model is aligned to a text-only ranker that learns from it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.utils.data import DataLoader

from pld_mmdet.distill._checks import wide
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.causal import next_token_loss
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class CycleAlign(Method):
    r"""Iterative alignment by a black-box ranker (Hong et al., ACL Findings 2024).

    Each round, for each prompt x, the model writes n responses, and both rank them::

        s_i = mean over the tokens of y_i of log p(y_i | x)     the model's ranking
        R   = ranker(x, responses; demonstrations)              the ranker's
        where both agree, (x, responses) becomes the ranker's next demonstration
        L   = rank(s in the order of R) + lambda CE(the first of R)

    with RRHF's or PRO's ranking loss. Stages: ``sft`` (next-token cross-entropy of the
    answers), then ``round_1``, ``round_2``, ...: their ``work_dataloader`` holds the
    training prompts in order. A batch is ``input_ids`` [B, L], of which the first
    ``prompt`` are the prompt, and ``index`` [B].

    No code was released. Choices of this implementation: the rankings agree where
    their longest common subsequence is ``agree`` long, all of them [n]: for less, two
    random orders agree nearly always. Responses have one length.

    Args:
        network: Config of a network, [B, T] ids -> [B, T, V] logits.
        ranker: Config of a ranker: (responses [n, L], demonstrations [m, n, L], best
            first) -> order [n], best first, or None where it has no answer; without
            parameters. ``judge(ids)`` [B, L] -> [B] is what ``predict`` measures.
        samples: (number of training prompts, L).
        prompt: Tokens of a prompt.
        n: Responses [3, suggested: the paper's was not found].
        demos: Most demonstrations, the oldest leave [3, suggested]; 0 for none.
        agree: See above [n].
        ranking: ``rrhf`` or ``pro`` (temperatures 1); the paper reports both.
        sft_weight: lambda [1, unconfirmed].

    Raises:
        UserError: An unknown ranking, or fewer than 2 responses.
    """

    default_stage = "round_1"
    ranked: Tensor
    queue: Tensor

    def __init__(
        self,
        network: dict,
        ranker: dict,
        samples: Sequence[int],
        prompt: int,
        n: int = 3,
        demos: int = 3,
        agree: int | None = None,
        ranking: str = "rrhf",
        sft_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("CycleAlign", ranking=(ranking, ("rrhf", "pro")))
        if n < 2:
            raise UserError(f"CycleAlign: n={n} cannot be ranked.", "Choose 2 or more.")
        self.network, self.ranker = MODELS.build(network), MODELS.build(ranker)
        self.rank_loss = rrhf_loss if ranking == "rrhf" else pro_loss
        self.prompt, self.n, self.agree = prompt, n, agree or n
        self.sft_weight = sft_weight
        count, length = samples
        self.register_buffer("ranked", torch.full((count, n, length), -1))
        self.register_buffer("queue", torch.full((demos, n, length), -1))

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Write, rank, and show the ranker what both agree on."""
        if not name.startswith("round"):
            return
        if loader is None:
            raise UserError(
                f"CycleAlign: stage {name} has no prompts.",
                "Give it a work_dataloader: the training data in order.",
            )
        self.train(False)  # dropout would shuffle the model's ranking
        self.ranked.fill_(-1)
        with own_randomness(int(name.rpartition("_")[2] or 0)):
            for batch in loader:
                batch = self.data_preprocessor(batch, False)
                ids = batch["input_ids"].repeat_interleave(self.n, 0)
                written = self.write(ids).unflatten(0, (-1, self.n))
                scores = self.scores(written.flatten(0, 1)).view(-1, self.n)
                for row, place in enumerate(batch["index"].tolist()):
                    self._rank(place, written[row], scores[row])
        all_reduce(self.ranked, op="max")

    def _rank(self, place: int, responses: Tensor, scores: Tensor) -> None:
        shown = self.queue[(self.queue >= 0).flatten(1).all(1)]
        order = self.ranker(responses, shown)
        if order is None:
            return  # this prompt is left out of the round
        self.ranked[place] = responses[order]
        both = agreement(scores.argsort(descending=True).tolist(), order.tolist())
        if len(both) >= self.agree and len(self.queue):
            rest = [i for i in order.tolist() if i not in both]
            self.queue.copy_(self.queue.roll(-1, 0))
            self.queue[-1] = responses[both + rest]

    def write(self, input_ids: Tensor) -> Tensor:
        """Responses, sampled at temperature 1, behind the prompts of [B, L]."""
        ids = input_ids[:, : self.prompt]
        while ids.shape[1] < input_ids.shape[1]:
            p = self.network(ids)[:, -1].float().softmax(-1)
            ids = torch.cat([ids, torch.multinomial(p, 1)], 1)
        return ids

    def scores(self, input_ids: Tensor) -> Tensor:
        """Mean log-probability of the response's tokens, [B, L] -> [B]."""
        log_p = wide(self.network(input_ids)).log_softmax(-1)[:, self.prompt - 1 : -1]
        told = input_ids[:, self.prompt :, None]
        return log_p.gather(-1, told).squeeze(-1).mean(1)

    def loss_sft(self, input_ids: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the answers' tokens."""
        z = self.network(input_ids)[:, self.prompt - 1 : -1]
        return {"loss_sft": next_token_loss(z, input_ids[:, self.prompt :])}

    def loss_round(self, index: Tensor, **_) -> dict[str, Tensor]:
        """Ranking loss, mean over the prompts that were ranked; CE of the first."""
        ranked = self.ranked[index]
        ranked = ranked[(ranked >= 0).flatten(1).all(1)]
        if not len(ranked):
            raise UserError(
                "CycleAlign: no prompt of this batch was ranked.",
                "Let the round's work_dataloader be all of its training data, and see "
                "that the ranker answers.",
            )
        s = self.scores(ranked.flatten(0, 1)).view(-1, self.n)
        return {
            "loss_rank": torch.stack([self.rank_loss(row) for row in s]).mean(),
            "loss_sft": -self.sft_weight * s[:, 0].mean(),  # one length: mean of tokens
        }

    def predict(self, input_ids: Tensor, **_) -> list[dict]:
        """What the ranker's ``judge`` says of one sampled response each, [B]."""
        return [{"judged": self.ranker.judge(self.write(input_ids))}]

    def outputs(self, input_ids: Tensor, **_) -> Tensor:
        """Logits [B, L, V]."""
        return self.network(input_ids)


def rrhf_loss(scores: Tensor) -> Tensor:
    """RRHF (Yuan et al. 2023): every pair in the wrong order costs its distance.

    Args:
        scores: [n], best first.

    Returns:
        The sum of ``relu(s_j - s_i)`` over i better than j; 0 with a gradient path for
        n < 2.

    Raises:
        UserError: Not one dimension.
    """
    s = _ranked(scores)
    return torch.triu((s[None] - s[:, None]).relu(), 1).sum()


def pro_loss(scores: Tensor) -> Tensor:
    """PRO (Song et al. 2023) with temperatures 1: each against all that are worse.

    Args:
        scores: [n], best first.

    Returns:
        ``-sum_i log(exp s_i / sum_{j >= i} exp s_j)`` without the last i (it is 0).

    Raises:
        UserError: Not one dimension.
    """
    s = _ranked(scores)
    return (s.flip(0).logcumsumexp(0).flip(0) - s)[:-1].sum()


def _ranked(scores: Tensor) -> Tensor:
    if scores.dim() != 1:
        raise UserError(
            f"A ranking loss was given scores {tuple(scores.shape)}.",
            "Give one ranking [n], best first.",
        )
    return wide(scores)


def agreement(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The longest common subsequence of two rankings; of several the first found."""
    if Counter(first) != Counter(second):
        raise UserError("Two rankings of other things.", "Rank the same items.")
    best: list[list[int]] = []
    for item in first:  # rankings have no item twice: the longest rising positions
        before = [b for b in best if second.index(b[-1]) < second.index(item)]
        best.append([*max(before, key=len, default=[]), item])
    return max(best, key=len, default=[])
