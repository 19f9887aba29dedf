"""Rows of all processes, in the order of their ranks."""

import torch
from torch import Tensor, distributed


def gathered(rows: Tensor) -> Tensor:
    """[N, ...] of this process -> [N x processes, ...]; alone: the same tensor.

    All processes must call it with as many rows. Tensors on the CPU travel over the
    GPU where the backend knows nothing else, and come back.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    count = distributed.get_world_size()
    if count == 1:
        return rows
    sent = rows.contiguous()
    if distributed.get_backend() == "nccl":
        sent = sent.cuda()
    parts = [torch.empty_like(sent) for _ in range(count)]
    distributed.all_gather(parts, sent)
    return torch.cat(parts).to(rows.device)
