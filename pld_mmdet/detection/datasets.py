"""Images without labels."""

from pathlib import Path

from mmengine.dataset import BaseDataset

from pld_mmdet.errors import UserError
from pld_mmdet.registry import DATASETS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Unlabelled images found by a pattern; no annotation file is ever opened.

    Args:
        data_root: Folder that is searched.
        pattern: Glob below ``data_root``; ``**`` searches recursively. Only files with
            an image suffix count.
        metainfo: Give ``classes`` so that logs name them; they say nothing about the
            images.
        pipeline: Transforms.
        **kwargs: See mmengine's ``BaseDataset``.

    Raises:
        UserError: No image matches.
    """

    def __init__(
        self,
        data_root: str,
        pattern: str = "**/*",
        metainfo: dict | None = None,
        pipeline: list = (),
        **kwargs,
    ) -> None:
        self.pattern = pattern
        super().__init__(
            ann_file="",
            data_root=str(data_root),
            metainfo=metainfo,
            pipeline=list(pipeline),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """One entry an image, sorted by path."""
        root = Path(self.data_root)
        paths = sorted(
            p for p in root.glob(self.pattern) if p.suffix.lower() in IMAGE_SUFFIXES
        )
        if not paths:
            raise UserError(
                f"No image found: {root / self.pattern}",
                "Check data_root and pattern of the unlabelled data set in the config"
                + ("." if root.is_dir() else f"; the folder {root} does not exist."),
            )
        return [dict(img_path=str(p), img_id=i) for i, p in enumerate(paths)]
