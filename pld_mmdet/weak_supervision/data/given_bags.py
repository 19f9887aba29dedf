"""Bags that a user has: a table of instances, or folders, and what is known of each."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.engine.data.images import read_image
from pld_mmdet.engine.state.files import each_once
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_records
from pld_mmdet.registry import DATASETS
from pld_mmdet.shared.data.class_folder import centre_crop
from pld_mmdet.shared.data.class_images import SUFFIXES
from pld_mmdet.values import SHARE

_EXAMPLE = (
    "Name the columns bag and instance (and label, bag_label or proportion, as far as "
    "they are known) in the first line."
)
_ROUND = 1e-3  # how far a share times the bag's size may be from a whole number


@DATASETS.register_module()
class GivenBags(Dataset):
    """Instances of bags of any size, and what is known of each bag.

    ``file`` is a table (``.csv``, ``.tsv``, JSON lines or parquet). Its columns:

    - ``bag``: name of a bag.
    - ``instance``: an image below ``data_root``, or with ``dataset`` the number of a
      sample, from 0. Where the column is missing, a line is a bag, and its instances
      are the images in ``data_root/<bag>/``.
    - ``label``: 0 or 1, of an instance [unknown: -1].
    - ``bag_label``: 1 where a bag holds a one [as its labels or its share say].
    - ``proportion``: share of ones in a bag [as its labels say].

    A sample is an instance (INS): ``dict(inputs, targets=label, bag_label, bag=number,
    index=place among all instances)``. With ``whole`` (LLP-BP, max pooling) it is a
    bag: ``inputs`` [S, ...], ``targets`` [S] and ``index`` [S] are filled up to the
    largest bag's S with 0, -1 and -1; ``sums`` is the number of ones, NaN where nobody
    knows it.

    Args:
        file: The table.
        data_root: Folder of the images.
        dataset: Config of a data set that holds the instances instead.
        size: Side of the images, whose middle square is taken.
        whole: Samples are bags.
        positive_only: Leave the negative bags out; numbers of bags and instances stay.

    Raises:
        UserError: A line that says nothing, contradicts another or names no instance; a
            share that its bag cannot have; a bag of which nothing is known.
    """

    def __init__(
        self,
        file: str,
        data_root: str | None = None,
        dataset: dict | None = None,
        size: int = 32,
        whole: bool = False,
        positive_only: bool = False,
    ) -> None:
        if (data_root is None) == (dataset is None):
            raise UserError(
                f"GivenBags: data_root={data_root!r} and dataset={dataset!r}.",
                "Give the folder of the images, or a data set whose samples the table "
                "numbers.",
            )
        self.file, self.size, self.whole = str(file), size, whole
        self.root = None if data_root is None else Path(data_root)
        self.dataset = None if dataset is None else ROOT_DATASETS.build(dataset)
        rows: dict[str, list[tuple[str, dict]]] = {}
        for where, row in read_records(file, "row of a table of bags", _EXAMPLE):
            rows.setdefault(_text(row, "bag", where), []).append((where, row))
        self.names = list(rows)
        parts = [self._bag(name, found) for name, found in rows.items()]
        self.instances = [one for members, _, _, _ in parts for one in members]
        self.hidden = torch.tensor([y for _, labels, _, _ in parts for y in labels])
        self.sizes = torch.tensor([len(members) for members, *_ in parts])
        self.proportions = torch.tensor([share for _, _, share, _ in parts])
        self.bag_labels = torch.tensor([label for *_, label in parts])
        self.first = self.sizes.cumsum(0) - self.sizes
        self.bag_of = torch.arange(len(parts)).repeat_interleave(self.sizes)
        kept = self.bag_labels.bool() | (not positive_only)
        self.bags = kept.nonzero().flatten()
        self.places = kept[self.bag_of].nonzero().flatten()
        if not len(self.bags):
            raise UserError(
                f"{self.file} has no positive bag.", "Set positive_only=False."
            )
        self.targets = self.bag_labels if whole else self.hidden[self.places]
        self.metainfo = {"classes": ("negative", "positive")}
        self._check_once()

    def _bag(self, name: str, rows: list) -> tuple[list, list[int], float, int]:
        """Instances, their labels, share of ones (NaN: unknown) and the bag's label."""
        where = rows[0][0]
        if "instance" in rows[0][1]:
            members = [self._instance(row, place) for place, row in rows]
            labels = [_label(row, "label", place) for place, row in rows]
        else:
            if len(rows) > 1:
                raise UserError(
                    f"{rows[1][0]}: the bag {name!r} stands twice, without instances.",
                    _EXAMPLE,
                )
            members = self._folder(name, where)
            labels = [-1] * len(members)
        count = sum(labels) if min(labels) >= 0 else None
        share = _alike(rows, "proportion", name, _share)
        label = _alike(rows, "bag_label", name, _label)
        if share is not None:
            ones = share * len(members)
            off = abs(ones - round(ones)) > _ROUND * len(members)
            if off or (count is not None and round(ones) != count):
                said = f"{count} of {len(members)} labels are 1"
                said = said if not off else f"the bag has {len(members)} instances"
                raise UserError(
                    f"{where}: the bag {name!r} has proportion={share:g}, and {said}.",
                    "Give the share of ones in the bag, from 0 to 1.",
                )
            count = round(ones)
        if label is None:
            if count is None and 1 not in labels:
                raise UserError(
                    f"{where}: nothing is known of the bag {name!r}.",
                    "Add a column bag_label, proportion or label.",
                )
            label = 1 if count is None else int(count > 0)
        known = count is not None
        if (known and (count > 0) != label) or (not label and 1 in labels):
            raise UserError(
                f"{where}: bag_label={label} of {name!r} contradicts its instances.",
                "A bag is 1 if and only if one of its instances is.",
            )
        if label == 0:  # all are known
            labels, count = [0] * len(labels), 0
        share = float("nan") if count is None else count / len(members)
        return members, labels, share, label

    def _instance(self, row: dict, where: str) -> Path | int:
        text = _text(row, "instance", where)
        if self.dataset is not None:
            if not text.isdecimal() or int(text) >= len(self.dataset):
                raise UserError(
                    f"{where}: instance={text!r} is no sample of the data set.",
                    f"Number its samples from 0 to {len(self.dataset) - 1}.",
                )
            return int(text)
        path = self.root / text
        if not path.is_file():
            raise UserError(
                f"{where}: there is no image {path}.",
                f"Name images below {self.root}.",
            )
        return path

    def _folder(self, name: str, where: str) -> list[Path]:
        if self.root is None or not (self.root / name).is_dir():
            raise UserError(
                f"{where}: the bag {name!r} has neither instances nor a folder.",
                "Add the column instance, or put its images into data_root/<bag>/.",
            )
        files = (p for p in (self.root / name).iterdir() if _is_image(p))
        found = each_once(sorted(files))
        if not found:
            raise UserError(
                f"{where}: the folder {self.root / name} has no images.",
                f"Put some there ({', '.join(SUFFIXES)}), or take the line out.",
            )
        return found

    def _check_once(self) -> None:
        seen: dict = {}
        for number, one in zip(self.bag_of.tolist(), self.instances, strict=True):
            if one not in seen:
                seen[one] = number
                continue
            raise UserError(
                f"{self.file}: {one} is in the bags {self.names[seen[one]]!r} and "
                f"{self.names[number]!r}.",
                "An instance belongs to one bag.",
            )

    def __len__(self) -> int:
        return len(self.bags) if self.whole else len(self.places)

    def __getitem__(self, index: int) -> dict:
        if not self.whole:
            place = int(self.places[int(index)])
            return {
                "inputs": self._inputs(place),
                "targets": self.hidden[place],
                "bag_label": self.bag_labels[self.bag_of[place]],
                "bag": int(self.bag_of[place]),
                "index": place,
            }
        bag = int(self.bags[int(index)])
        size = int(self.sizes[bag])
        places = torch.arange(size) + self.first[bag]
        rest = int(self.sizes.max()) - size
        inputs = torch.stack([self._inputs(int(i)) for i in places])
        return {
            "inputs": torch.cat([inputs, inputs.new_zeros(rest, *inputs.shape[1:])]),
            "targets": F.pad(self.hidden[places], (0, rest), value=-1),
            "index": F.pad(places, (0, rest), value=-1),
            "sums": (self.proportions[bag] * size).round(),
            "bag_label": self.bag_labels[bag],
            "bag": bag,
        }

    def _inputs(self, place: int) -> Tensor:
        one = self.instances[place]
        if self.dataset is not None:
            return self.dataset[one]["inputs"]
        pixels = torch.from_numpy(read_image(one)).permute(2, 0, 1).float() / 255
        return centre_crop(pixels, self.size).contiguous()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def _text(row: dict, key: str, where: str) -> str:
    value = row.get(key)
    if value is None or not str(value).strip():
        raise UserError(f"{where} has no {key}.", _EXAMPLE)
    return str(value).strip()


def _label(row: dict, key: str, where: str) -> int:
    """0, 1, or -1 where the column is missing or the cell empty."""
    text = str(row.get(key, "")).strip()
    if text not in ("", "0", "1", "-1"):
        raise UserError(
            f"{where}: {key}={text!r} is no label.",
            "Labels are 0 and 1; leave it empty where it is unknown.",
        )
    return int(text or -1)


def _share(row: dict, key: str, where: str) -> float:
    """From 0 to 1, or -1 where the column is missing or the cell empty."""
    text = str(row.get(key, "")).strip()
    try:
        value = float(text or -1)
    except ValueError:
        value = float("nan")
    if text and SHARE.problem(value):
        raise UserError(f"{where}: {key}={text!r} is no share.", f"Give {SHARE}.")
    return value


def _alike(rows: Iterable, key: str, bag: str, read: Callable) -> float | int | None:
    """What all rows of a bag say; None: nothing.

    Raises:
        UserError: Two rows say different things.
    """
    found = [(where, read(row, key, where)) for where, row in rows]
    said = [(where, value) for where, value in found if value >= 0]
    for where, value in said:
        if value != said[0][1]:
            raise UserError(
                f"{where}: {key}={value:g} of the bag {bag!r}, which had "
                f"{said[0][1]:g} before.",
                "Say the same of a bag in all of its lines.",
            )
    return said[0][1] if said else None
