"""CycleAlign: a language model is aligned to a text-only ranker that learns from it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_rank
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pld_mmdet.distill._checks import wide
from pld_mmdet.distill.losses import masked_mean
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.run.method import Method
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.language.decoding.sampling import sample
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
    ``prompt`` are the prompt (padded on the left), and ``index`` [B].

    No code was released. Choices of this implementation: the rankings agree where
    their longest common subsequence is ``agree`` long, all of them [n]: for less, two
    random orders agree nearly always. With PRO the CE is, as in its code, a sum over
    the tokens times (n - 1)^2.

    Args:
        network: Config of a network, [B, T] ids -> [B, T, V] logits.
        ranker: Config of a ranker: (responses [n, L], demonstrations [m, n, L], best
            first) -> order [n], best first, or None where it has no answer; nothing
            of it learns. ``judge(ids)`` [B, L] -> [B], where it has one, is what
            ``predict`` measures.
        samples: (number of training prompts, L).
        prompt: Tokens of a prompt.
        n: Responses [3, suggested: the paper's was not found].
        demos: Most demonstrations, the oldest leave [3, suggested]; 0 for none.
        agree: See above [n].
        cycle: Whether agreed rankings become demonstrations; without, one-way, the
            rival.
        ranking: ``rrhf`` or ``pro`` (temperatures 1), the paper reports both; ``none``
            leaves the CE of the ranker's first: best-of-n, the rival.
        sft_weight: lambda [1, unconfirmed; with PRO .05, its code].
        pad: Id before prompts and behind responses, another one than ``stop`` [none:
            all have one length].
        stop: Id that ends a response [none].

    Raises:
        UserError: An unknown ranking, or fewer than 2 responses.
    """

    default_stage = "round_1"
    work = {"round": "the training data in order"}
    ranked: Tensor
    queue: Tensor
    right: Tensor

    def __init__(
        self,
        network: dict,
        ranker: dict,
        samples: Sequence[int],
        prompt: int,
        n: int = 3,
        demos: int = 3,
        agree: int | None = None,
        cycle: bool = True,
        ranking: str = "rrhf",
        sft_weight: float | None = None,
        pad: int | None = None,
        stop: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        one_of("CycleAlign", ranking=(ranking, ("rrhf", "pro", "none")))
        if n < 2:
            raise UserError(f"CycleAlign: n={n} cannot be ranked.", "Choose 2 or more.")
        if stop is not None and stop == pad:
            raise UserError(
                f"CycleAlign: stop and pad are both {pad}.",
                "Choose another pad: the end of a response is learnt, padding is not.",
            )
        self.network, self.ranker = MODELS.build(network), MODELS.build(ranker)
        self.ranker.requires_grad_(False)
        self.ranking, self.pad, self.stop = ranking, pad, stop
        self.prompt, self.n, self.agree = prompt, n, agree or n
        self.cycle = cycle and demos > 0
        usual = 0.05 if ranking == "pro" else 1.0
        self.sft_weight = usual if sft_weight is None else sft_weight
        count, length = samples
        self.register_buffer("ranked", torch.full((count, n, length), -1))
        self.register_buffer("queue", torch.full((demos, n, length), -1))
        self.register_buffer("right", torch.tensor(float("nan")))

    @torch.no_grad()
    def start_stage(self, name: str, loader: DataLoader | None, folder: Path) -> None:
        """Write, rank, and show the ranker what both agree on."""
        if not name.startswith("round"):
            return
        self.check_work(name, loader)
        self.train(False)  # dropout would shuffle the model's ranking
        self.ranked.fill_(-1)
        number = int(name.rpartition("_")[2] or 0)
        with own_randomness(number, get_rank()):
            for batch in loader:
                batch = self.data_preprocessor(batch, False)
                places = batch["index"].tolist()
                ids = batch["input_ids"].repeat_interleave(self.n, 0)
                written = self.write(ids, (number, places[0]))
                scores = self.scores(written).view(-1, self.n)
                written = written.unflatten(0, (-1, self.n))
                for row, place in enumerate(places):
                    self._rank(place, written[row], scores[row])
        all_reduce(self.ranked, op="max")
        if hasattr(self.ranker, "judge"):  # the truth, where there is one: for the log
            told = self.ranker.judge(self.ranked[self._known(self.ranked)])
            self.right.fill_((told.diff(dim=1) <= 0).all(1).float().mean())

    @staticmethod
    def _known(rankings: Tensor) -> Tensor:
        return (rankings >= 0).flatten(1).all(1)

    def _rank(self, place: int, responses: Tensor, scores: Tensor) -> None:
        shown = self.queue[self._known(self.queue)]
        shown = shown if self.cycle else shown[:0]
        order = self.ranker(responses, shown)
        if order is None:
            return  # this prompt is left out of the round
        self.ranked[place] = responses[order]
        both = agreement(scores.argsort(descending=True).tolist(), order.tolist())
        if self.cycle and len(both) >= self.agree:
            rest = [i for i in order.tolist() if i not in both]
            self.queue.copy_(self.queue.roll(-1, 0))
            self.queue[-1] = responses[both + rest]

    def write(self, input_ids: Tensor, seed: tuple[int, ...]) -> Tensor:
        """Responses, sampled at temperature 1, behind the prompts of [B, L]."""
        prompts, room = input_ids[:, : self.prompt], input_ids.shape[1] - self.prompt
        mask = None if self.pad is None else (prompts != self.pad).long()
        drawn = sample(
            self.network, prompts, room, seed=seed, mask=mask, stop=self.stop
        )
        ids = drawn.ids
        if self.pad is not None:
            behind = torch.arange(ids.shape[1], device=ids.device)
            ids = ids.masked_fill(behind >= drawn.lengths[:, None], self.pad)
        fill = 0 if self.pad is None else self.pad
        return torch.cat([prompts, F.pad(ids, (0, room - ids.shape[1]), value=fill)], 1)

    def told(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the response's tokens, and which are real: [B, R]."""
        mask = places = None
        real = torch.ones_like(input_ids[:, self.prompt :])
        if self.pad is not None:
            mask = (input_ids != self.pad).long()
            places = (mask.cumsum(1) - 1).clamp(min=0)
            real = mask[:, self.prompt :]
        z = self.network(input_ids, mask, places)[:, self.prompt - 1 : -1]
        answer = input_ids[:, self.prompt :, None]
        return wide(z).log_softmax(-1).gather(-1, answer).squeeze(-1), real.float()

    def scores(self, input_ids: Tensor) -> Tensor:
        """Mean log-probability of the response's tokens, [B, L] -> [B]."""
        log_p, real = self.told(input_ids)
        return (log_p * real).sum(1) / real.sum(1).clamp(min=1)

    def loss_sft(self, input_ids: Tensor, **_) -> dict[str, Tensor]:
        """Cross-entropy of the answers' tokens."""
        log_p, real = self.told(input_ids)
        return {"loss_sft": -masked_mean(log_p, real)}

    def loss_round(self, index: Tensor, **_) -> dict[str, Tensor]:
        """Ranking loss, mean over the prompts that were ranked; CE of the first."""
        ranked = self.ranked[index]
        ranked = ranked[self._known(ranked)]
        if not len(ranked):
            raise UserError(
                "CycleAlign: no prompt of this batch was ranked.",
                "Let the round's work_dataloader be all of its training data, and see "
                "that the ranker answers.",
            )
        log_p, real = self.told(ranked.flatten(0, 1))
        s = ((log_p * real).sum(1) / real.sum(1).clamp(min=1)).view(-1, self.n)
        first = slice(None, None, self.n)
        ce = -masked_mean(log_p[first], real[first])
        losses = {"ranker_right": self.right}
        if self.ranking == "pro":
            losses["loss_rank"] = torch.stack([pro_loss(row) for row in s]).mean()
            ce = (self.n - 1) ** 2 * -(log_p * real)[first].sum(1).mean()
        elif self.ranking == "rrhf":
            losses["loss_rank"] = torch.stack([rrhf_loss(row) for row in s]).mean()
        return losses | {"loss_sft": self.sft_weight * ce}

    def predict(self, input_ids: Tensor, index: Tensor, **_) -> list[dict]:
        """What the ranker's ``judge`` says of one sampled response each, [B].

        Beside it ``ranker``, how often its last round's rankings were right. Without a
        judge the negative log-likelihood of the data's own answers' tokens, [n].
        """
        if not hasattr(self.ranker, "judge"):
            log_p, real = self.told(input_ids)
            return [{"nll": -log_p[real.bool()]}]
        judged = self.ranker.judge(self.write(input_ids, (99, int(index[0]))))
        return [{"judged": judged, "ranker": self.right.expand_as(judged)}]

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
