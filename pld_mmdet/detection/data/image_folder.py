"""Images without labels."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset

from pld_mmdet.engine.state.files import each_once
from pld_mmdet.errors import UserError
from pld_mmdet.reading import users_text
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
        files: Text file with one image path a line, relative to ``data_root``, or
            these paths; only they are taken, in that order, and ``pattern`` is not
            used. So a run repeats with the same images although the folder has grown.
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
        files: str | Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        self.pattern = pattern
        self.files = files
        super().__init__(
            ann_file="",
            data_root=str(data_root),
            metainfo=metainfo,
            pipeline=list(pipeline),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """One entry an image, sorted by path (or as ``files`` lists them)."""
        root = Path(self.data_root)
        if self.files is not None:
            files = self.files
            files = listed_images(Path(files)) if isinstance(files, str) else files
            return [
                dict(img_path=str(root / name), img_id=i)
                for i, name in enumerate(files)
            ]
        found = (p for p in root.glob(self.pattern) if _is_image(p))
        paths = each_once(sorted(found))
        if not paths:
            raise UserError(
                f"No image found: {root / self.pattern}",
                "Check data_root and pattern of the unlabelled data set in the config"
                + ("." if root.is_dir() else f"; the folder {root} does not exist."),
            )
        return [dict(img_path=str(p), img_id=i) for i, p in enumerate(paths)]


def _is_image(path: Path) -> bool:
    """By its name; another system writes ``._photo.jpg`` beside each photo."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def listed_images(path: Path) -> list[str]:
    """Lines of a list of images; only a line feed ends one, as names hold all else.

    Raises:
        UserError: It is missing, no text, or empty.
    """
    if not path.is_file():
        raise UserError(
            f"The list of images {path} does not exist.",
            "Correct `files` of the unlabelled data set, or leave it out to take the "
            "whole folder.",
        )
    lines = users_text(path, "list of images", "Write it again.").split("\n")
    names = [name for line in lines if (name := line.removesuffix("\r"))]
    if not names:
        raise UserError(f"The list of images {path} is empty.", "Write it again.")
    return names
