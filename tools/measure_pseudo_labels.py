#!/usr/bin/env python
"""Compare a teacher's pseudo labels with the hidden truth of its training images.

Evidence only: adapting never reads these labels.

Example:
    python tools/measure_pseudo_labels.py configs/lpld/foggy_streets.py \
        work_dirs/lpld/foggy_streets/iter_400.pth \
        --ann annotations/train_foggy_beta_0.02.json
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import add_config_arguments, load_config, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of Mean Teacher or LPLD")
    parser.add_argument("checkpoint", help="its checkpoint, or a plain detector's")
    parser.add_argument("--ann", help="COCO json below data_root [that of val]")
    parser.add_argument("--images", type=int, default=200, help="how many images [200]")
    parser.add_argument("--out", help="write the numbers to this json")
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Label the images, compare, print a table."""
    import torch
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from pld_mmdet.detection.pseudo_quality import PseudoLabelQuality
    from pld_mmdet.engine.checkpoint import load_checkpoint_file
    from pld_mmdet.engine.jobs import write_json
    from pld_mmdet.engine.provenance import command_line, commit
    from pld_mmdet.engine.stack import import_mmdet
    from pld_mmdet.engine.weights import report_mismatch
    from pld_mmdet.registry import MODELS

    cfg = load_config(args)
    import_mmdet()
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model).eval()
    checkpoint = load_checkpoint_file(args.checkpoint)
    report_mismatch(model, checkpoint.get("state_dict", checkpoint), args.checkpoint)
    loader_cfg = cfg.val_dataloader
    if args.ann:
        loader_cfg.dataset.ann_file = args.ann
    loader_cfg.dataset.indices = args.images
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    quality = PseudoLabelQuality(
        Path(cfg.val_dataloader.dataset.data_root, loader_cfg.dataset.ann_file),
        cfg.val_evaluator.get("area_bounds", (32**2, 96**2)),
    )
    with torch.no_grad():
        for batch in track(loader, "labelling"):
            data = model.data_preprocessor(batch, training=False)
            pseudo = model.pseudo_labels(data["inputs"], data["data_samples"])
            quality.add(pseudo, data["data_samples"])
    numbers = quality.summary()
    table = Table("what", "value", title=f"{quality.images} images")
    for name, value in numbers.items():
        whole = name.endswith("per_image") or "count" in name
        table.add_row(name, f"{value:.1f}" if whole else f"{100 * value:.1f} %")
    Console().print(table)
    if args.out:
        result = dict(numbers=numbers, images=quality.images, command=command_line())
        write_json(Path(args.out), {**result, "commit": commit()[0]})


if __name__ == "__main__":
    arguments = parse_args()
    run_tool(lambda: main(arguments))
