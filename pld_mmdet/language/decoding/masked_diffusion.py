"""Masked-diffusion language models: views with masks, decoding of several at once."""

import torch
from torch import Tensor, nn

from pld_mmdet.distill.losses import entropy
from pld_mmdet.errors import UserError


def complementary_views(
    input_ids: Tensor,
    prompt_lengths: Tensor,
    block: int,
    share: float,
    mask_id: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two views of each sequence that mask complementary parts of one block.

    Of each answer a block is drawn (uniformly; the last also holds the rest of the
    answer). What lies before it is shown, what lies behind it is masked in both views.

    Args:
        input_ids: [B, L].
        prompt_lengths: [B]; a prompt is never masked.
        block: Tokens of one, > 0.
        share: Of the block that the first view masks, each token by itself.
        mask_id: Of the mask token.

    Returns:
        Both views [B, L], and where each masks its part of the block [B, L].

    Raises:
        UserError: No positive block, or a share that is none.
    """
    if block < 1 or not 0 <= share <= 1:
        raise UserError(
            f"complementary_views: block={block} and share={share} make no views.",
            "Choose a block of 1 token or more, and a share from 0 to 1.",
        )
    length, prompts = input_ids.shape[1], prompt_lengths[:, None]
    whole = (length - prompts).clamp(min=0) // block  # the number of whole blocks
    draws = torch.rand(whole.shape, device=input_ids.device)
    number = torch.minimum((draws * (whole + 1)).long(), whole)  # 0..whole
    start = prompts + number * block
    end = torch.where(number == whole, length, start + block)
    place = torch.arange(length, device=input_ids.device)
    inside = (place >= start) & (place < end)
    behind = place >= end
    drawn = torch.rand(input_ids.shape, device=input_ids.device) < share
    first, second = inside & drawn, inside & ~drawn
    views = [input_ids.masked_fill(m | behind, mask_id) for m in (first, second)]
    return (*views, first, second)


@torch.no_grad()
def decode(
    network: nn.Module,
    input_ids: Tensor,
    prompt_lengths: Tensor,
    mask_id: int,
    block: int,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Fill answers block by block, in each call all tokens that are certain enough.

    A call commits every masked token of the block whose entropy (temperature 1) is at
    most the threshold, and the most certain one in any case: a threshold below 0 fills
    one token a call.

    Args:
        network: [B, L] ids -> [B, L, V] logits, in evaluation mode.
        input_ids: [B, L]; what stands behind a prompt is not looked at.
        prompt_lengths: [B].
        mask_id: Of the mask token, which is never an answer.
        block: Tokens of one.
        threshold: In nats.

    Returns:
        Filled ids [B, L], and each row's number of network calls [B].
    """
    length, prompts = input_ids.shape[1], prompt_lengths[:, None]
    place = torch.arange(length, device=input_ids.device)
    answer = place >= prompts
    ids = input_ids.masked_fill(answer, mask_id)
    number = (place - prompts).clamp(min=0) // block
    open_, calls = answer.clone(), torch.zeros_like(prompt_lengths)
    while bool(open_.any()):
        now = number.masked_fill(~open_, length).amin(1, keepdim=True)
        inside = open_ & (number == now)
        z = network(ids).double()
        z[..., mask_id] = -torch.inf
        unsure = entropy(z).masked_fill(~inside, torch.inf)
        sure = unsure <= threshold
        sure.scatter_(1, unsure.argmin(1, keepdim=True), True)
        sure &= inside
        ids = torch.where(sure, z.argmax(-1), ids)
        calls += inside.any(1).long()
        open_ &= ~sure
    return ids, calls
