"""One row of numbers for each training image, kept over epochs and resumes."""

import torch
from mmengine.dist import all_gather
from torch import Tensor, nn


class SampleBank(nn.Module):
    """Rows by data set index, in the checkpoint, on the CPU.

    The rows stay on the CPU and in float32, whatever the model is moved or cast to:
    softmax rows of ImageNet are 5 GB. A model under DDP keeps them out of the broadcast
    of buffers with ``_ddp_params_and_buffers_to_ignore = ["<name>.rows"]``; ``write``
    makes all processes store the same.

    Args:
        num_samples: Images N of the training set.
        width: Numbers W of a row.

    Attributes:
        rows: [N, W]; zero until written.
    """

    rows: Tensor

    def __init__(self, num_samples: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_samples, width))

    def _apply(self, fn, recurse: bool = True) -> "SampleBank":
        """Neither move nor cast."""
        return self

    def read(self, index: Tensor) -> Tensor:
        """Rows [B, W] of the images ``index`` [B], on the device of ``index``."""
        return self.rows[index.cpu()].to(index.device)

    @torch.no_grad()
    def write(self, index: Tensor, rows: Tensor) -> None:
        """Store the rows of this batch on all processes.

        Rows with a number that is not finite are left out: the optimizer wrapper skips
        such a batch, and the bank must not remember it.

        Args:
            index: [B], as many on every process.
            rows: [B, W].
        """
        index = torch.cat(all_gather(index)).cpu()
        rows = torch.cat(all_gather(rows.detach().float().contiguous())).cpu()
        finite = rows.isfinite().all(1)
        self.rows[index[finite]] = rows[finite]
