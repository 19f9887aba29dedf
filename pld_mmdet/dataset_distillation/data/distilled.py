"""A distilled set: parameters while it is made, then files and a data set."""

from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.utils.data import Dataset

from pld_mmdet.dataset_distillation.data.folders import (
    RECORD,
    read_distilled,
    write_distilled,
)
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file, save_atomic
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

    def export_folder(self, folder: str | Path) -> Path:
        """Write the pairs as pictures and labels, which ``DistilledPairs`` reads too.

        The pixels are free numbers here; their range is in the folder's record, and
        8 bits of it are kept.
        """
        images = self.images.detach()
        low, high = (float(x) for x in images.aminmax()) if len(images) else (0.0, 1.0)
        high = high if high > low else low + 1.0
        return write_distilled(folder, images, self.targets, low=low, high=high)


@HOOKS.register_module()
class ExportDistilledHook(Hook):
    """Writes the model's ``synthetic`` set into the work dir when training ends.

    Args:
        filename: Name of the file, exact numbers ['distilled.pth'].
        folder: Name of the folder of pictures, 8 bits ['distilled'].
    """

    def __init__(
        self, filename: str = "distilled.pth", folder: str = "distilled"
    ) -> None:
        self.filename, self.folder = filename, folder

    @master_only
    def after_train(self, runner) -> None:
        """Write it."""
        model = unwrapped(runner.model)
        path = Path(runner.work_dir) / self.filename
        model.synthetic.export(path)
        folder = model.synthetic.export_folder(path.with_name(self.folder))
        runner.logger.info(f"The distilled set is {path}, as pictures {folder}")


@DATASETS.register_module()
class DistilledPairs(Dataset):
    """The pairs of a distilled set: ``dict(inputs=C x H x W, targets=d, index=...)``.

    A folder has the class of each image too (``classes``), and its pixels are as the
    pictures show them: of a set with classes in [0, 1].

    Args:
        file: A folder that a method of this family wrote; a ``distilled.pth``, or a
            checkpoint of the model that made the pairs.

    Raises:
        UserError: There is no distilled set, or it was changed.
    """

    def __init__(self, file: str | Path) -> None:
        self.classes: Tensor | None = None
        self.metainfo: dict = {}
        if Path(file).is_dir() or Path(file).name == RECORD:
            folder = Path(file) if Path(file).is_dir() else Path(file).parent
            found = read_distilled(folder)
            self.images, self.targets = found["images"], found["targets"]
            self.classes = found["classes"]
            self.metainfo = {"classes": tuple(found["names"])}
            return
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

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        sample = {
            "inputs": self.images[index],
            "targets": self.targets[index],
            "index": int(index),
        }
        if self.classes is not None:
            sample["classes"] = self.classes[index]
        return sample
