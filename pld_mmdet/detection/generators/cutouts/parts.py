"""Which parts of a made data set are there, with which parameters; its options."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from pld_mmdet.cli import ToolParser
from pld_mmdet.detection.data.files import TEMPORARY, write_json
from pld_mmdet.detection.data.pool import default_workers
from pld_mmdet.detection.generators.cutouts.domains import DOMAINS
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.shared.data.package_files import own_root
from pld_mmdet.shared.packages import add_source
from pld_mmdet.values import POSITIVE_INT, PROCESSES, SEED


def add_options(parser: ToolParser, name: str, what: str, count: int, text: str):
    """The options of a command that draws parts out of packages.

    Args:
        parser: Of the command.
        name: Of the data set: its root is ``data/NAME``.
        what: How the option that says how many is called.
        count: Its default.
        text: Its help.
    """
    add = parser.add_argument
    add("--root", type=Path, default=Path("data") / name)
    add(f"--{what}", type=POSITIVE_INT, default=count, help=text)
    add("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    add("--seed", type=SEED, default=0)
    add("--workers", type=PROCESSES, default=default_workers())
    add("--overwrite", action="store_true", help="replace parts with other parameters")
    add_source(parser)


class Parts:
    """The record of a data set: part -> number of pictures, seed, version.

    Args:
        root: Data root.
        name: Of the record file in it.
        folders: What else the data set would have there.
        overwrite: Parts with other parameters may be replaced.

    Raises:
        UserError: The root holds such folders without a record, or a broken record.
    """

    def __init__(
        self, root: Path, name: str, folders: Iterable[str], overwrite: bool = False
    ) -> None:
        self.root, self.path, self.overwrite = root, root / name, overwrite
        self.made: dict[str, dict] = {}
        if self.path.is_file():
            schema = {"*": {"pictures": int, "seed": int, "version": int}}
            self.made = read_json(self.path, schema)
        else:
            own_root(root, name, folders)

    def begin(self, folder: str, new: dict, files: Iterable[Path]) -> bool:
        """Make room for a part, unless it is there already.

        More pictures of the same kind are added to those that are there.

        Args:
            folder: Of the part, below the root; it is the part's name too.
            new: Its ``pictures``, ``seed``, ``version`` and what else decides it.
            files: All that it will have.

        Returns:
            Whether there is something to do.

        Raises:
            UserError: It was made with other parameters, and may not be replaced.
        """
        old = self.made.get(folder)
        if old == new and all(path.is_file() for path in files):
            print(f"{folder}: all {new['pictures']} pictures are there")
            return False
        if old is not None and not (
            {**old, "pictures": 0} == {**new, "pictures": 0}
            and old["pictures"] <= new["pictures"]
        ):
            keys = [key for key in new if old.get(key) != new[key]]
            changed = ", ".join(f"{key} {old.get(key)} -> {new[key]}" for key in keys)
            if not self.overwrite:
                raise UserError(
                    f"{self.root} holds {folder} with other parameters ({changed}).",
                    "Add --overwrite to delete it and draw it anew, or choose another "
                    "--root.",
                )
            shutil.rmtree(self.root / folder, ignore_errors=True)
        for half in (self.root / folder).rglob(f"*{TEMPORARY}"):
            half.unlink()
        self.made[folder] = new
        write_json(self.path, self.made, indent=1)
        return True
