"""What an adaptation was asked for: kept in its folder, compared when it goes on."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.adaptation.folder import Images, shown
from pld_mmdet.adaptation.options import Options
from pld_mmdet.adaptation.recipe import Recipe
from pld_mmdet.detection.data.image_folder import listed_images
from pld_mmdet.engine.state.files import write_json
from pld_mmdet.engine.state.provenance import file_sha256
from pld_mmdet.engine.state.resuming import listed
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json

FILE = "adapt.json"
_SCHEMA = {
    "asked": dict,
    "recipe": {
        "batch": int,
        "processes": int,
        "iterations": int,
        "lr": float,
        "keep": float,
        "warm_up": int,
        "optimizer": str,
        "adabn_images": int,
        "threshold": float,
        "images": int,
        "max_boxes?": (int, type(None)),
    },
    "skipped": [[str]],
}


@dataclass
class Asked:
    """Everything that decides the result of an adaptation.

    Attributes:
        options: By the names of ``adapt``'s arguments; files by what is in them.
        recipe: What the rule made of them.
        skipped: (file, what is wrong) of unreadable images.
    """

    options: dict
    recipe: Recipe | None = None
    skipped: list[tuple[str, str]] | None = None

    def write(self, folder: Path) -> None:
        """Keep it in the run's folder."""
        content = dict(
            asked=self.options, recipe=asdict(self.recipe), skipped=self.skipped
        )
        write_json(folder / FILE, content)


def describe(
    config: str | Path,
    cfg: Config,
    checkpoint: str | Path,
    root: Path,
    options: Options,
) -> Asked:
    """Put the arguments of ``adapt`` into a form that can be compared.

    Files are known by their content, so that they may be moved.
    """
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    content = hashlib.sha256(text.encode()).hexdigest()
    kept = options.asked() | dict(
        config=f"{Path(config).name} ({content[:12]})",
        checkpoint=_content(checkpoint),
        images=str(root.resolve()),
    )
    for name in ("val", "val_images", "labels"):
        path = getattr(options, name)
        kept[name] = None if path is None else str(Path(path).resolve())
    words = options.second_opinion
    kept["second_opinion"] = [_content(word) for word in words] if words else None
    return Asked(kept)


def _content(path: str | Path) -> str:
    return f"{Path(path).name} ({file_sha256(path)[:12]})"


def began_with(folder: Path, now: Asked) -> Asked:
    """What the run in a folder was asked for, if that is what is asked now.

    Raises:
        UserError: The options differ (all of them are named), or the file is broken.
    """
    content = read_json(folder / FILE, _SCHEMA, "record of an adaptation")
    before = content["asked"]
    other = [
        (f"--{name.replace('_', '-')}", before.get(name), value)
        for name, value in now.options.items()
        if not _same(name, before.get(name), value)
    ]
    if other:
        raise UserError(
            f"--resume would go on with other options than the run in {folder} began "
            f"with: {listed(other)}.",
            "Give the options of its beginning, or choose another folder with --out.",
        )
    skipped = [tuple(pair) for pair in content["skipped"]]
    return Asked(before, Recipe(**content["recipe"]), skipped)


def _same(name: str, before: object, now: object) -> bool:
    if name in ("config", "checkpoint"):  # by content
        return str(before).rpartition("(")[2] == str(now).rpartition("(")[2]
    return before == now


def images_of(folder: Path, found: list[str], root: Path, asked: Asked) -> list[str]:
    """The run's own files out of those that are there now.

    Args:
        folder: Of the run, with ``images.txt``.
        found: Files below ``root`` now.
        root: Folder of the images.
        asked: What the run began with.

    Raises:
        UserError: One of the run's images is gone.
    """
    own = listed_images(folder / "images.txt")
    gone = sorted(set(own) - set(found))
    if gone:
        raise UserError(
            f"{len(gone)} images of the run in {folder} are not in {root} any more, "
            f"for example {gone[0]}.",
            "Put them back, or choose another folder with --out.",
        )
    return own


def came_later(found: list[str], own: list[str], asked: Asked) -> int:
    """How many files are there that the run has not seen."""
    later = {shown(name) for name in set(found) - set(own)}
    return len(later - {name for name, _ in asked.skipped})


def unbroken(found: Images, folder: Path) -> None:
    """Refuse to go on when an image of the run cannot be read any more."""
    if found.broken:
        name, what = found.broken[0]
        raise UserError(
            f"{len(found.broken)} images of the run in {folder} cannot be read any "
            f"more, for example {name} ({what}).",
            "Copy them again, or choose another folder with --out.",
        )
