#!/usr/bin/env python
"""Turn a detectron2 checkpoint into one for an mmdet config, and check that it agrees.

Faster and Mask R-CNN, C4 and FPN, .pth and .pkl; nothing in the file is executed. The
converted model and detectron2's arithmetic (written out in torch) run on a fixed image,
and the largest difference is printed; above 1e-3 nothing is written.

Examples:
    python tools/convert_detectron2.py final.pth configs/source/cityscapes.py out.pth
    python tools/convert_detectron2.py sfda.pth CONFIG out.pth --prefix modelTeacher.
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
    NOT_NEGATIVE,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser(__doc__)
    parser.add_argument("weights", type=input_file, help="detectron2's .pth or .pkl")
    parser.add_argument(
        "config", type=input_file, help="config whose detector receives them"
    )
    parser.add_argument("out", type=output_file, help="file to write (.pth)")
    parser.add_argument(
        "--prefix", default="", help="part of the names to cut off, e.g. modelTeacher."
    )
    parser.add_argument(
        "--tolerance", type=NOT_NEGATIVE, default=1e-3, help="relative, default: 1e-3"
    )
    add_config_arguments(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Read, translate, compare, write."""
    cfg = load_config(args)
    from pld_mmdet.detection.detectors import detectron2_weights as d2
    from pld_mmdet.detection.detectors.detectron2_reference import largest_difference
    from pld_mmdet.detection.detectors.stock import build_detector
    from pld_mmdet.engine.run.stack import import_mmdet
    from pld_mmdet.engine.state.checkpoint import save_atomic
    from pld_mmdet.engine.state.provenance import file_sha256
    from pld_mmdet.engine.state.weights import report_mismatch

    import_mmdet()
    detector = build_detector(cfg.model.get("detector", cfg.model)).eval()
    weights = d2.load_detectron2(args.weights, args.prefix)
    anchors = detector.rpn_head.prior_generator
    made = d2.convert(weights, len(anchors.scales), len(anchors.ratios))
    report_mismatch(detector, made.state, args.weights)
    print(f"{len(made.state)} entries translated.")
    for name in made.left_over:
        print(f"  not translated: {name}")
    difference = largest_difference(detector, weights)
    print(f"Largest relative difference on a fixed image: {difference:.1e}")
    if not difference <= args.tolerance:
        raise UserError(
            f"{args.weights} computes something else in {args.config}: outputs differ "
            f"by {difference:.1e} of their size.",
            "Compare the config's backbone style (caffe or pytorch), anchors and "
            "strides with the file's detectron2 config.",
        )
    classes = tuple(_classes(cfg))
    meta = {
        "dataset_meta": {"classes": classes},
        "converted_from_sha256": file_sha256(args.weights),
    }
    state = {k: v.clone() for k, v in detector.state_dict().items()}
    save_atomic({"meta": meta, "state_dict": state}, args.out)
    print(
        f"{args.out}: {len(state)} entries, classes {', '.join(classes) or 'unknown'}"
    )


def _classes(cfg) -> tuple:
    from pld_mmdet.engine.state.provenance import data_sets

    loader = cfg.get("val_dataloader") or cfg.get("test_dataloader")
    if loader is None:
        return ()
    first = data_sets(loader["dataset"])[0]
    return (first.get("metainfo") or {}).get("classes", ())


if __name__ == "__main__":
    run_tool(main, parse_args)
