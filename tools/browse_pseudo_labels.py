#!/usr/bin/env python
"""Draw the pseudo labels of a checkpoint into the images of a folder.

Green boxes are kept as labels, orange ones are mined (LPLD), grey ones are dropped
proposals. The images are evenly spaced in the folder, so that nobody picks the ones
that flatter; index.html shows them with their counts.

Example:
    python tools/browse_pseudo_labels.py configs/lpld/foggy_streets.py \
        work_dirs/lpld/foggy_streets/iter_400.pth \
        data/foggy_streets/leftImg8bit_foggy/val --out pictures
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's package

from pld_mmdet.cli import (
    ToolParser,
    add_config_arguments,
    input_file,
    input_folder,
    load_config,
    output_folder,
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
        "config", type=input_file, help="config of a source-free method"
    )
    parser.add_argument(
        "checkpoint", type=input_file, help="its checkpoint, or a plain detector's"
    )
    parser.add_argument(
        "images", type=input_folder, help="folder, searched with its sub-folders"
    )
    parser.add_argument("--out", type=output_folder, default="pseudo_labels")
    parser.add_argument(
        "--overwrite", action="store_true", help="write into a folder that holds files"
    )
    parser.add_argument(
        "--limit", type=POSITIVE_INT, default=20, help="how many images [20]"
    )
    parser.add_argument(
        "--hide", nargs="+", default=[], choices=["kept", "mined", "dropped"]
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Label, draw, write the page."""
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    from pld_mmdet.adaptation.folder import check_images, find_images
    from pld_mmdet.detection.data.files import write_png
    from pld_mmdet.engine.config.preflight import check_parts
    from pld_mmdet.engine.run.stack import import_mmdet
    from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
    from pld_mmdet.engine.state.weights import report_mismatch
    from pld_mmdet.registry import DATASETS, MODELS
    from pld_mmdet.report.browse import draw, label_images, write_page
    from pld_mmdet.report.pictures import spaced

    cfg, out = load_config(args), Path(args.out)
    if out.is_dir() and any(out.iterdir()) and not args.overwrite:
        raise UserError(
            f"--out {out} holds files already; nothing was written.",
            "Name another folder, or add --overwrite.",
        )
    root, files = find_images(args.images)
    files = [files[index] for index in spaced(args.limit, len(files))]
    images = check_images(root, files, max_broken=1.0)
    if images.broken:
        print(images.broken_sentence(), flush=True)
    import_mmdet()
    init_default_scope("mmdet")
    cfg.setdefault("default_scope", "mmdet")
    check_parts(cfg, ("val",))
    model = MODELS.build(cfg.model).eval()
    if not hasattr(model, "pseudo_labels"):
        raise UserError(
            f"{type(model).__name__} makes no pseudo labels.",
            "Give the config of a method, e.g. configs/lpld/foggy_streets.py.",
        )
    checkpoint = load_checkpoint_file(args.checkpoint)
    state = checkpoint.get("state_dict", checkpoint)
    report_mismatch(model, state, args.checkpoint)
    dataset = DATASETS.build(_dataset(cfg, images))
    loader = (pseudo_collate([dataset[n]]) for n in range(len(dataset)))
    meta = (checkpoint.get("meta") or {}).get("dataset_meta") or {}
    classes = tuple(dataset.metainfo.get("classes") or meta.get("classes") or ())
    found = []
    for number, labelled in enumerate(label_images(model, loader, classes), start=1):
        name = f"{number:03d}_{labelled.path.stem}.png"
        write_png(out / name, draw(labelled, tuple(args.hide)))
        found.append((name, labelled.counts))
        counts = ", ".join(f"{n} {kind}" for kind, n in labelled.counts.items())
        print(f"{name}: {counts}", flush=True)
    title = f"Pseudo labels of {Path(args.checkpoint).name}"
    print(f"Open {write_page(out, found, title).resolve()}")


def _dataset(cfg, images) -> dict:
    """Images in the config's test pipeline, without annotations.

    Raises:
        UserError: The config has no such pipeline.
    """
    from pld_mmdet.engine.state.provenance import data_sets

    loader = cfg.get("val_dataloader") or cfg.get("test_dataloader") or {}
    dataset = next(iter(data_sets(loader.get("dataset"))), {})
    steps = dataset.get("pipeline") or []
    steps = [step for step in steps if step.type != "LoadAnnotations"]
    if not steps:
        raise UserError(
            "The config has no val_dataloader or test_dataloader with a pipeline.",
            "Give the config of a method, e.g. configs/lpld/foggy_streets.py.",
        )
    if steps[-1].type == "MultiBranch":  # adapt.py without labels validates on views
        steps[-1:] = steps[-1].weak
    return dict(
        type="pld_mmdet.ImageFolder",
        data_root=str(images.root),
        files=images.files,
        metainfo=dataset.get("metainfo"),
        pipeline=steps,
        test_mode=True,
    )


if __name__ == "__main__":
    run_tool(main, parse_args)
