"""Batched sampling with a key-value cache, log-probabilities and its own randomness."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pld_mmdet.distill._checks import wide
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.errors import UserError


class Sampled(NamedTuple):
    """Continuations.

    Args:
        ids: [B, N], filled with the stop token behind it.
        log_probs: [B, N], of each token under the network itself (temperature 1,
            nothing cut); 0 behind the stop token.
        lengths: [B], tokens with the stop token.
    """

    ids: Tensor
    log_probs: Tensor
    lengths: Tensor


@torch.no_grad()
def sample(
    network: nn.Module,
    prompts: Tensor,
    new_tokens: int,
    *,
    seed: Sequence[int],
    mask: Tensor | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    no_repeat: int = 0,
    stop: int | None = None,
    banned: Sequence[int] = (),
) -> Sampled:
    """Draw a continuation of every prompt; the network is read in evaluation mode.

    Args:
        network: With ``reader(ids, mask)``, as :class:`CausalTransformer` (the prompt
            is continued) and :class:`Seq2SeqTransformer` (it is answered) have it.
        prompts: [B, P] ids; padding on the left for a causal network.
        new_tokens: N, the most that are drawn.
        seed: Counters of the random stream; the global one is left as it was.
        mask: [B, P], 1 where a prompt is real [everywhere].
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Only the likeliest tokens whose probabilities before them sum to less
            than this.
        no_repeat: No run of so many tokens twice, the causal prompt's included [0].
        stop: Ends a text.
        banned: Ids that are never drawn.

    Raises:
        UserError: A temperature below 0, or top_p outside (0, 1].
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise UserError(
            f"sample: temperature={temperature}, top_p={top_p} are out of range.",
            "Choose a temperature of 0 or more, and top_p above 0, at most 1.",
        )
    was_training = network.training
    network.eval()
    read, first, history = network.reader(prompts, mask)
    rows = len(prompts)
    going = torch.ones(rows, dtype=torch.bool, device=prompts.device)
    ids, log_probs, step = [], [], first
    with own_randomness(*seed):
        while len(ids) < new_tokens and rows and bool(going.any()):
            log_p = wide(read(step)).log_softmax(-1)
            cut = log_p.clone()
            cut[:, list(banned)] = -torch.inf
            if no_repeat:
                cut = _without_repeats(cut, history, no_repeat)
            token = _draw(cut, temperature, top_p)
            chosen = log_p.gather(1, token).squeeze(1)
            if stop is not None:
                token = torch.where(going[:, None], token, stop)
                chosen = torch.where(going, chosen, 0.0)
                going = going & (token[:, 0] != stop)
            ids.append(token)
            log_probs.append(chosen[:, None])
            history, step = torch.cat([history, token], 1), token
    network.train(was_training)
    if not ids:
        none = prompts.new_zeros(rows, 0)
        return Sampled(none, none.float(), none.sum(1))
    drawn = torch.cat(ids, 1)
    lengths = torch.full((rows,), drawn.shape[1], device=drawn.device)
    if stop is not None:
        ended = (drawn == stop).int()
        lengths = torch.where(ended.any(1), ended.argmax(1) + 1, lengths)
    return Sampled(drawn, torch.cat(log_probs, 1), lengths)


def _draw(log_p: Tensor, temperature: float, top_p: float) -> Tensor:
    if temperature == 0:
        return log_p.argmax(-1, keepdim=True)
    p = (log_p / temperature).softmax(-1)
    if top_p < 1:
        ordered, place = p.sort(dim=-1, descending=True)
        late = ordered.cumsum(-1) - ordered >= top_p
        p = torch.zeros_like(p).scatter(1, place, ordered.masked_fill(late, 0.0))
    return torch.multinomial(p, 1)


def _without_repeats(log_p: Tensor, history: Tensor, n: int) -> Tensor:
    """Forbid what would complete a run of n tokens that is in the history [B, T]."""
    if history.shape[1] < n:
        return log_p
    runs = history.unfold(1, n, 1)
    last = history[:, history.shape[1] - n + 1 :]
    again = (runs[..., :-1] == last[:, None]).all(-1)
    closes = torch.where(again, runs[..., -1], -1)
    hit = torch.zeros_like(log_p[:, :1].expand(-1, log_p.shape[1] + 1).bool().clone())
    hit.scatter_(1, closes + 1, True)
    return log_p.masked_fill(hit[:, 1:], -torch.inf)
