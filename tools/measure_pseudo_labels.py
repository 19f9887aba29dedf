#!/usr/bin/env python
"""Compare a teacher's pseudo labels with the hidden truth of its training images.

Evidence only: learning never reads these labels. With several checkpoints (seeds) the
numbers are means, with the spread. `--polish` adds what dual polishing changes.

Examples:
    python tools/measure_pseudo_labels.py configs/lpld/foggy_streets.py \
        work_dirs/lpld/foggy_streets/iter_400.pth \
        --ann annotations/train_foggy_beta_0.02.json
    python tools/measure_pseudo_labels.py configs/dual_polish/streets_5pct.py \
        work_dirs/reproduce/streets_semi/seed_*/dual_polish/last.pth \
        --ann semi_anns/train.1@5-unlabeled.json --truth annotations/train.json \
        --polish docs/images/polishing.png --overwrite \
        --out docs/results/streets_semi_polish.json
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    input_file,
    load_config,
    output_file,
    run_tool,
)
from pld_mmdet.errors import UserError
from pld_mmdet.values import (
    POSITIVE_INT,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "config", type=input_file, help="config of a method with pseudo boxes"
    )
    parser.add_argument(
        "checkpoint",
        type=input_file,
        nargs="+",
        help="its checkpoints, or a plain detector's",
    )
    parser.add_argument("--ann", help="COCO json below data_root [that of val]")
    parser.add_argument("--truth", help="the same images with all boxes [--ann]")
    parser.add_argument(
        "--images", type=POSITIVE_INT, default=200, help="how many images [200]"
    )
    parser.add_argument(
        "--out", type=output_file, help="write the numbers to this json"
    )
    parser.add_argument(
        "--polish",
        type=output_file,
        metavar="PNG",
        help="dual polishing: by IoU band, and a picture",
    )
    add_config_arguments(parser)
    return parser.parse_args()


def validation(cfg):
    """The validation loader of a config and the data set in it.

    Raises:
        UserError: There is none with annotations.
    """
    from pld_mmdet.engine.state.provenance import data_sets

    loader = cfg.get("val_dataloader") or {}
    leaves = data_sets(loader.get("dataset"))
    if len(leaves) != 1 or not leaves[0].get("ann_file"):
        raise UserError(
            "The config has no val_dataloader over one data set with annotations.",
            "Give the config of a method, e.g. configs/lpld/foggy_streets.py.",
        )
    return loader, leaves[0]


def require_images(dataset) -> None:
    """Refuse images that are missing or broken: numbers without them are others.

    Raises:
        UserError: Names the first.
    """
    from pld_mmdet.engine.data.images import image_fault

    paths = [dataset.get_data_info(n)["img_path"] for n in range(len(dataset))]
    found = [(path, image_fault(path)[0]) for path in paths]
    broken = [f"{path} ({fault})" for path, fault in found if fault]
    if not paths or broken:
        raise UserError(
            f"{len(broken)} of {len(paths)} images cannot be read"
            + (f", for example {broken[0]}." if broken else ": none is listed."),
            "Correct data_root, data_prefix and --ann, or make the data again.",
        )


def main(args: argparse.Namespace) -> None:
    """Label the images, compare, print a table."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from pld_mmdet.detection.data.coco import read_coco
    from pld_mmdet.detection.evaluation.pseudo_quality import measure, over_checkpoints
    from pld_mmdet.engine.config.preflight import check_parts
    from pld_mmdet.engine.run.optional import require
    from pld_mmdet.engine.run.stack import import_mmdet
    from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
    from pld_mmdet.engine.state.files import write_atomic, write_json
    from pld_mmdet.engine.state.provenance import command_line, commit
    from pld_mmdet.engine.state.weights import report_mismatch
    from pld_mmdet.registry import MODELS

    if args.polish:
        require("matplotlib", "report")  # missing now, not after the labelling
    cfg = load_config(args)
    import_mmdet()
    init_default_scope("mmdet")
    cfg.setdefault("default_scope", "mmdet")
    check_parts(cfg, ("val",))
    loader_cfg, dataset = validation(cfg)
    if args.ann:
        dataset.ann_file = args.ann
    dataset.indices = args.images
    root = dataset.get("data_root") or ""
    truth = Path(root, args.truth or dataset.ann_file)
    fix = "Name COCO jsons below data_root with --ann and --truth."
    read_coco(Path(root, dataset.ann_file), fix, complete=True)
    read_coco(truth, fix, complete=True)
    model = MODELS.build(cfg.model).eval()
    if not hasattr(model, "pseudo_labels") and not hasattr(model, "pseudo_sets"):
        raise UserError(
            f"{type(model).__name__} makes no pseudo labels.",
            "Give the config of a method, e.g. configs/lpld/foggy_streets.py.",
        )
    if args.polish and not hasattr(model, "judge"):
        raise UserError(
            f"--polish needs a model with polishers; {type(model).__name__} has none.",
            "Leave it out, or give a config of configs/dual_polish.",
        )
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    require_images(loader.dataset)
    evaluator = cfg.get("val_evaluator")
    evaluator = evaluator if isinstance(evaluator, dict) else {}
    bounds = evaluator.get("area_bounds", (32**2, 96**2))
    classes = loader.dataset.metainfo["classes"]
    numbers, shown = {}, []
    for path in args.checkpoint:
        checkpoint = load_checkpoint_file(path)
        report_mismatch(model, checkpoint.get("state_dict", checkpoint), path)
        batches = track(loader, Path(path).parent.name)
        numbers[path], images = measure(
            model, batches, truth, bounds, bool(args.polish), classes=classes
        )
        shown = shown or images
    mean, spread = over_checkpoints(list(numbers.values()))
    table = Table("what", "value", "spread", title=f"{len(loader.dataset)} images")
    for name, value in mean.items():
        whole = name.endswith(("per_image", "boxes")) or "count" in name
        scale, unit = (1, "") if whole else (100, " %")
        shown_spread = f"{scale * spread[name]:.1f}" if len(numbers) > 1 else ""
        table.add_row(name, f"{scale * value:.1f}{unit}", shown_spread)
    Console().print(table)
    if args.polish:
        from pld_mmdet.report.polishing import draw

        png = draw(shown, mean, spread)
        write_atomic(args.polish, lambda file: file.write(png))
    if args.out:
        result = dict(numbers=mean, images=len(loader.dataset), command=command_line())
        if len(numbers) > 1:
            result |= dict(spread=spread, checkpoints=numbers)
        write_json(Path(args.out), {**result, "commit": commit()[0]})


if __name__ == "__main__":
    run_tool(main, parse_args)
