"""A distilled set: parameters while it is made, then a file and a data set."""

from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.utils.data import Dataset

from pld_mmdet.engine.checkpoint import load_checkpoint_file, save_atomic
from pld_mmdet.engine.models import unwrapped
from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS, HOOKS


class SyntheticSet(nn.Module):
    """Images and their targets as learnable parameters.

    Args:
        size: m, the number of pairs.
        image_shape: C, H, W.
        target_dim: d, the length of a target.
    """

    def __init__(
        self, size: int, image_shape: tuple[int, int, int], target_dim: int
    ) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.zeros(size, *image_shape))
        self.targets = nn.Parameter(torch.zeros(size, target_dim))

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def fill(self, images: Tensor, targets: Tensor) -> None:
        """Start from pairs: m x C x H x W and m x d."""
        self.images.copy_(images)
        self.targets.copy_(targets)

    def export(self, path: str | Path) -> None:
        """Write the pairs into a file that ``DistilledPairs`` reads."""
        pairs = {"images": self.images, "targets": self.targets}
        save_atomic({k: v.detach().cpu().clone() for k, v in pairs.items()}, path)


@HOOKS.register_module()
class ExportDistilledHook(Hook):
    """Writes the model's ``synthetic`` set into the work dir when training ends.

    Args:
        filename: Name of the file ['distilled.pth'].
    """

    def __init__(self, filename: str = "distilled.pth") -> None:
        self.filename = filename

    @master_only
    def after_train(self, runner) -> None:
        """Write it."""
        model = unwrapped(runner.model)
        path = Path(runner.work_dir) / self.filename
        model.synthetic.export(path)
        runner.logger.info(f"The distilled set is {path}")


@DATASETS.register_module()
class DistilledPairs(Dataset):
    """The pairs of a distilled set: ``dict(inputs=C x H x W, targets=d, index=...)``.

    Args:
        file: What ``ExportDistilledHook`` wrote, or a checkpoint of the model that made
            the set.

    Raises:
        UserError: The file holds no distilled set.
    """

    def __init__(self, file: str | Path) -> None:
        found = load_checkpoint_file(file)
        state = found.get("state_dict", {})
        pairs = [
            found.get(name, state.get(f"synthetic.{name}"))
            for name in ("images", "targets")
        ]
        if any(part is None for part in pairs) or len(pairs[0]) != len(pairs[1]):
            raise UserError(
                f"{file} holds no distilled set.",
                "Name a distilled.pth, or a checkpoint of a model that distils data.",
            )
        self.images, self.targets = pairs
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {
            "inputs": self.images[index],
            "targets": self.targets[index],
            "index": int(index),
        }
