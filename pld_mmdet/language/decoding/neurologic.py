"""NeuroLogic decoding: beam search under clauses over words (Lu et al., NAACL 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pld_mmdet.distill._checks import wide
from pld_mmdet.errors import UserError

Phrase = tuple[int, ...]


@dataclass(frozen=True)
class Constraints:
    """A formula in conjunctive normal form, over phrases of token ids.

    Args:
        clauses: Of each at least one phrase is wanted.
        forbidden: No phrase of these.
        at_most: (ids, n): no more than n tokens of these ids.
    """

    clauses: tuple[tuple[Phrase, ...], ...] = ()
    forbidden: tuple[Phrase, ...] = ()
    at_most: tuple[tuple[frozenset[int], int], ...] = ()

    def met(self, ids: Sequence[int]) -> frozenset[int]:
        """Which clauses a text satisfies."""
        return frozenset(
            i
            for i, clause in enumerate(self.clauses)
            if any(_holds(ids, phrase) for phrase in clause)
        )

    def broken(self, ids: Sequence[int]) -> bool:
        """Whether a text has a forbidden phrase or too many of some tokens."""
        return any(_holds(ids, phrase) for phrase in self.forbidden) or any(
            sum(one in counted for one in ids) > most for counted, most in self.at_most
        )

    def closed(self, ids: Sequence[int]) -> set[int]:
        """Tokens that may not come next: a forbidden phrase's last, a spent budget."""
        found = {
            phrase[-1]
            for phrase in self.forbidden
            if tuple(ids[len(ids) - len(phrase) + 1 :]) == phrase[:-1]
        }
        for counted, most in self.at_most:
            if sum(one in counted for one in ids) >= most:
                found |= counted
        return found

    def progress(self, ids: Sequence[int], met: frozenset[int]) -> tuple[float, set]:
        """Largest begun share of an unmet phrase, and the tokens that go on with one.

        Returns:
            The share, 1 where nothing is open and 0 where nothing is begun; the tokens.
        """
        most, tokens = 0.0, set()
        for i, clause in enumerate(self.clauses):
            if i in met:
                continue
            for phrase in clause:
                begun = max(
                    n
                    for n in range(len(phrase))
                    if tuple(ids[-n:]) == phrase[:n] or not n
                )
                most = max(most, begun / len(phrase))
                tokens.add(phrase[begun])
        return (most if tokens else 1.0), tokens


@dataclass
class Hypothesis:
    """A text behind a prompt, its log-probability and the clauses that it meets."""

    ids: list[int] = field(default_factory=list)
    log_prob: float = 0.0
    met: frozenset[int] = frozenset()
    rank: float = 0.0


def neurologic_score(
    log_prob: float, t: int, progress: float, beta: float, rewarded: bool = False
) -> float:
    """What hypotheses compete by: ``log_prob / (t + 1) - beta log(progress)``.

    Args:
        log_prob: Sum over the tokens so far.
        t: Place of the last token, from 0 on.
        progress: Begun share of an unmet phrase, in (0, 1]; 0 adds nothing.
        beta: Weight [0, the published script].
        rewarded: Add the term instead. As the code has it (lm/topK.py), a phrase that
            is further on scores lower, against the paper's intention.
    """
    if not beta or progress <= 0:
        return log_prob / (t + 1)
    bonus = beta * math.log(progress)
    return log_prob / (t + 1) + (bonus if rewarded else -bonus)


@torch.no_grad()
def neurologic(
    network: nn.Module,
    prompt: Tensor,
    constraints: Constraints,
    new_tokens: int,
    stop: int,
    beam: int = 20,
    prune: int = 50,
    tolerance: int = 2,
    beta: float = 0.0,
    length_penalty: float = 0.2,
) -> list[Hypothesis]:
    """The likeliest continuations of one prompt that keep to the constraints.

    Each step's candidates are the best ``beam`` of all, of each hypothesis the tokens
    that go on with an unmet phrase, and its own best token; of the last two kinds those
    whose dense rank among all is below ``prune``. Those that meet ``tolerance`` fewer
    clauses than the best one leave; the rest is grouped by what it meets and taken in
    turn, the best of each group first, until the beam is full.

    Deviation from the decoder (GXimingLu/neurologic_decoding, 6694be9): it lets a
    hypothesis' own best token pass even where that breaks a constraint; here nothing
    that is forbidden passes.

    Args:
        network: [B, T] ids -> [B, T, V] logits.
        prompt: [P].
        constraints: Over the continuation.
        new_tokens: The most, with the end token.
        stop: The end token.
        beam: Hypotheses [20, the CommonGen script].
        prune: See above [50].
        tolerance: See above [2].
        beta: See :func:`neurologic_score` [0].
        length_penalty: Finished texts compete by log-probability / length to this [.2].

    Returns:
        At most ``beam`` finished hypotheses without their end token: those that meet
        most clauses first, then by score. None where all is forbidden.

    Raises:
        UserError: A beam below 1.
    """
    if beam < 1 or new_tokens < 1:
        raise UserError(
            f"neurologic: beam={beam}, new_tokens={new_tokens} write nothing.",
            "Choose 1 or more of both.",
        )
    network.eval()
    alive, finished = [Hypothesis()], []
    for t in range(new_tokens):
        texts = [[*prompt.tolist(), *h.ids] for h in alive]
        z = network(torch.tensor(texts, device=prompt.device))[:, -1]
        log_p = wide(z).log_softmax(-1).cpu()
        if t == new_tokens - 1:  # the last token can only be the end
            log_p = torch.full_like(log_p, -torch.inf).index_copy(
                1, torch.tensor([stop]), log_p[:, [stop]]
            )
        for row, one in enumerate(alive):
            log_p[row, list(constraints.closed(one.ids))] = -torch.inf
        total = log_p + torch.tensor([h.log_prob for h in alive])[:, None]
        offered = _offered(total, alive, constraints, beam, prune)
        grown = []
        for row, token in offered:
            before, score = alive[row], float(total[row, token])
            if token == stop:
                rank = score / (len(before.ids) + 1) ** length_penalty
                finished.append(Hypothesis(before.ids, score, before.met, rank))
                continue
            ids = [*before.ids, token]
            met = constraints.met(ids)
            share, _ = constraints.progress(ids, met)
            rank = neurologic_score(score, t, share, beta)
            grown.append(Hypothesis(ids, score, met, rank))
        alive = _in_turn(grown, beam, tolerance)
        if not alive:
            break
    finished.sort(key=lambda h: (-len(h.met), -h.rank))
    return finished[:beam]


def _offered(total, alive, constraints, beam, prune) -> list[tuple[int, int]]:
    width = total.shape[1]
    best = total.flatten().topk(min(beam, total.numel()))
    rows = {
        divmod(place, width)
        for place, value in zip(
            best.indices.tolist(), best.values.tolist(), strict=True
        )
        if value > -torch.inf
    }
    others = {(row, int(total[row].argmax())) for row in range(len(alive))}
    for row, one in enumerate(alive):
        others |= {(row, k) for k in constraints.progress(one.ids, one.met)[1]}
    distinct = total.flatten().unique().flip(0)  # descending: dense ranks
    for row, token in others - rows:
        value = total[row, token]
        rank = int((distinct > value).sum()) + 1
        if value > -torch.inf and rank < prune:
            rows.add((row, token))
    return sorted(rows)


def _in_turn(grown: list[Hypothesis], beam: int, tolerance: int) -> list[Hypothesis]:
    if not grown:
        return []
    most = max(len(h.met) for h in grown)
    groups: dict[frozenset, list[Hypothesis]] = {}
    for one in sorted(grown, key=lambda h: -h.rank):
        if len(one.met) >= most - tolerance:
            groups.setdefault(one.met, []).append(one)
    kept: list[Hypothesis] = []
    while any(groups.values()) and len(kept) < beam:
        heads = [own.pop(0) for own in groups.values() if own]
        kept += sorted(heads, key=lambda h: -h.rank)
    return kept[:beam]


def _holds(ids: Sequence[int], phrase: Phrase) -> bool:
    n = len(phrase)
    return any(tuple(ids[i : i + n]) == phrase for i in range(len(ids) - n + 1))
