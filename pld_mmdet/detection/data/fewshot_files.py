"""What ``tools/make_fewshot.py`` does: files in, files out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pld_mmdet.detection.data import fewshot
from pld_mmdet.detection.data.coco import read_coco
from pld_mmdet.detection.data.files import write_json
from pld_mmdet.detection.data.voc import voc_to_coco
from pld_mmdet.detection.detectors.class_surgery import remap_classes
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file, save_atomic
from pld_mmdet.errors import UserError


def write(
    benchmark: str,
    root: Path,
    shots: Sequence[int],
    seed: int = 0,
    split: int | None = None,
    most_objects: int | None = None,
) -> Iterator[tuple[Path, int, int]]:
    """Write the annotation files of a benchmark.

    Args:
        benchmark: ``voc``, ``coco`` or ``streets``.
        root: Folder of the data.
        shots: The Ks.
        seed: Of the draw.
        split: Of VOC: 1, 2 or 3.
        most_objects: Draw from images with at most so many objects.

    Yields:
        File, number of images, number of boxes.
    """
    if benchmark == "voc":
        # shots come from both years, the test is VOC 2007's
        train = voc_to_coco(root, [("2007", "trainval"), ("2012", "trainval")])
        test = voc_to_coco(root, [("2007", "test")])
        classes, novel = fewshot.VOC, fewshot.VOC_NOVEL[split]
        stem = f"voc_split{split}"
    elif benchmark == "coco":
        train = _with_folder(root, "instances_train2017.json", "train2017")
        test = _with_folder(root, "instances_val2017.json", "val2017")
        classes = [category["name"] for category in train["categories"]]
        novel, stem = fewshot.COCO_NOVEL, "coco"
    else:
        train, test = (
            read_annotations(root, "train.json"),
            read_annotations(root, "test.json"),
        )
        classes, novel, stem = fewshot.STREETS, fewshot.STREETS_NOVEL, "streets"
    base, novel = fewshot.base_then_novel(classes, novel)
    files = fewshot.few_shot_files(train, test, base, novel, shots, seed, most_objects)
    # For gates; the other benchmarks have no third part.
    if benchmark == "streets" and (root / "annotations/val.json").is_file():
        val = read_annotations(root, "val.json")
        files["val"] = fewshot.keep_classes(val, [*base, *novel])
        files["val_base"] = fewshot.keep_classes(val, base)
    for name, content in files.items():
        path = root / "annotations" / "fewshot" / f"{stem}_{name}.json"
        write_json(path, content)
        yield path, len(content["images"]), len(content["annotations"])


def read_annotations(root: Path, name: str) -> dict:
    """Read ``<root>/annotations/<name>``.

    Raises:
        UserError: There is no such file.
    """
    path = root / "annotations" / name
    if not path.is_file():
        raise UserError(
            f"There is no {path}.",
            "Prepare the data first (python tools/prepare.py --help), or give --root.",
        )
    return read_coco(path)


def _with_folder(root: Path, name: str, folder: str) -> dict:
    """File names relative to the root, so that one config serves both splits."""
    content = read_annotations(root, name)
    for image in content["images"]:
        image["file_name"] = f"{folder}/{image['file_name']}"
    return content


def extend_checkpoint(checkpoint: str, out: str, listing: dict, seed: int = 0) -> None:
    """Write a checkpoint whose box head has the classes of ``listing``.

    Args:
        checkpoint: Plain detector that knows its class names.
        out: File to write.
        listing: COCO json content.
        seed: Of the fresh rows.

    Raises:
        UserError: The checkpoint does not name its classes, or knows none of the new.
    """
    content = load_checkpoint_file(checkpoint)
    old = ((content.get("meta") or {}).get("dataset_meta") or {}).get("classes")
    if not old:
        raise UserError(
            f"{checkpoint} does not say which classes it was trained on.",
            "Give a checkpoint that tools/train.py wrote.",
        )
    new = [category["name"] for category in listing["categories"]]
    if not set(old) & set(new):
        raise UserError(
            f"{checkpoint} knows none of the classes {', '.join(new)}.",
            "Give the K-shot file of the same benchmark.",
        )
    weights = remap_classes(content["state_dict"], list(old), new, seed)
    meta = {"dataset_meta": {"classes": tuple(new)}}
    save_atomic({"meta": meta, "state_dict": weights}, out)
