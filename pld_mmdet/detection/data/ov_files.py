"""What ``tools/make_ov_coco.py`` does: files in, files out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pld_mmdet.detection.data.fewshot_files import read_annotations
from pld_mmdet.detection.data.files import write_json
from pld_mmdet.detection.data.ov_coco import (
    BASE,
    STREETS_BASE,
    STREETS_NOVEL,
    keep_classes,
    ov_coco_classes,
)
from pld_mmdet.detection.data.simulated_candidates import simulate_candidates
from pld_mmdet.detection.open_vocabulary.clip_candidates import training_file


def write(
    benchmark: str, root: Path, seed: int = 0, versions: Sequence[int] = (1,)
) -> Iterator[tuple[Path, int, int]]:
    """Write the annotation files of a benchmark.

    Args:
        benchmark: ``coco`` or ``streets``.
        root: Folder of the data.
        seed: Of the simulated candidates.
        versions: Of their errors, one file each; that of version 2 is called ``_v2``.

    Yields:
        File, number of images, number of boxes.
    """
    files = {}
    if benchmark == "coco":
        train = read_annotations(root, "instances_train2017.json")
        classes = ov_coco_classes(train)
        base = [name for name in classes if name in BASE]
        files["train_base"] = keep_classes(train, classes, annotated=base)
        val = read_annotations(root, "instances_val2017.json")
        files["val"] = keep_classes(val, classes)
    else:
        train = read_annotations(root, "train.json")
        classes = [*STREETS_BASE, *STREETS_NOVEL]
        listed = keep_classes(train, classes, annotated=STREETS_BASE)
        for version in versions:
            rows = simulate_candidates(
                train, STREETS_BASE, STREETS_NOVEL, seed, version=version
            )
            tag = "" if version == 1 else f"_v{version}"
            files[f"train_candidates{tag}_seed{seed}"] = training_file(
                listed, rows, STREETS_NOVEL
            )
        # Only measurements read it: people's boxes of the novel classes too.
        files["train_hidden"] = keep_classes(train, classes)
        for part in ("val", "test"):
            content = read_annotations(root, f"{part}.json")
            files[part] = keep_classes(content, classes)
    for name, content in files.items():
        path = root / "annotations" / "ov" / f"{name}.json"
        write_json(path, content)
        yield path, len(content["images"]), len(content["annotations"])
