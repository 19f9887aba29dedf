"""From a run directory to the report: numbers, pictures if possible, one file."""

import sys
import traceback
from collections import Counter
from pathlib import Path

from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.engine.config.data_files import read_dump
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.errors import UserError
from pld_mmdet.reading import read_json
from pld_mmdet.report.collect import Row, Run, collect
from pld_mmdet.report.markup import encoded
from pld_mmdet.report.page import build_page
from pld_mmdet.report.pictures import (
    Detector,
    detection_strips,
    pseudo_label_strips,
)
from pld_mmdet.report.words import quality_sentence


def write_report(
    run_dir: str | Path,
    out: str | Path | None = None,
    images: int = 6,
    device: str = "cpu",
) -> Path:
    """Write the report of a run directory.

    Args:
        run_dir: What ``tools/reproduce.py --out`` wrote, finished or not.
        out: The HTML file [``run_dir/report.html``].
        images: Test images to show, 0 for none.
        device: Where the pictures' detectors run.

    Returns:
        The file.

    Raises:
        UserError: If there is no run, or the file cannot be written.
    """
    run = collect(run_dir)
    out = Path(out) if out else Path(run_dir) / "report.html"
    pictures = _pictures(run, images, device) if images else {}
    page = build_page(run, objects=class_counts(run), **pictures)
    write_atomic(out, lambda file: file.write(encoded(page)))
    return out


def class_counts(run: Run) -> dict[str, int]:
    """Objects per class (crowds aside) in the test set of the adapted row.

    Empty when the row's config or its annotation file is not there.
    """
    found = _first_work_dir(run.adapted())
    if found is None or not (found / "config.py").is_file():
        return {}
    evaluator = read_dump(found / "config.py").get("test_evaluator") or {}
    evaluators = evaluator if isinstance(evaluator, list) else [evaluator]
    files = [Path(e["ann_file"]) for e in evaluators if e.get("ann_file")]
    if not files or not files[0].is_file():
        return {}
    schema = {
        "categories": [{"id": int, "name": str}],
        "annotations": [{"category_id": int}],
    }
    content = read_json(files[0], schema, "COCO annotation file")
    names = {c["id"]: c["name"] for c in content["categories"]}
    seen = (a["category_id"] for a in content["annotations"] if not a.get("iscrowd"))
    return dict(Counter(names[one] for one in seen if one in names))


def _pictures(run: Run, images: int, device: str) -> dict:
    """Arguments for the page; what cannot be made is said in ``run.missing``."""
    adapted = run.adapted()
    source_dir = _first_work_dir(run.row("source"))
    adapted_dir = _first_work_dir(adapted)
    if source_dir is None or adapted_dir is None:
        run.missing.append(
            "Pictures: they need the folders of the source detector and of an adapted"
            " one."
        )
        return {}
    made = {}
    try:
        detector = Detector(adapted_dir, device)
        made["strips"], total = detection_strips(
            Detector(source_dir, device), detector, f"After {adapted.short}", images
        )
        made["strips_rule"] = (
            f"{len(made['strips'])} of the {total} test images, evenly spaced by their"
            f" number and not picked by eye; seed {min(adapted.work_dirs)}."
        )
        if isinstance(detector.model, LPLD):
            made["pseudo_strips"], quality = pseudo_label_strips(
                detector, min(images, 3)
            )
            made["quality"] = quality_sentence(quality)
        else:
            run.missing.append("Pseudo label pictures: no LPLD row to ask.")
    except UserError as error:
        run.missing.append(f"Pictures: {error.what} {error.fix}")
    except Exception as error:  # the numbers must reach the reader whatever breaks here
        traceback.print_exc(file=sys.stderr)
        run.missing.append(
            f"Pictures: {type(error).__name__}: {error} (the trace is in the terminal)."
        )
    return made


def _first_work_dir(row: Row | None) -> Path | None:
    return row.work_dirs[min(row.work_dirs)] if row and row.work_dirs else None
