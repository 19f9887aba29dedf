# tools/adapt.py on three differently built detectors, by the commands of docs/adapt.md:
#   python tools/reproduce.py configs/_base_/experiments/foggy_streets_detectors.py \
#       --seeds 0 1 2 --result docs/results/foggy_streets_detectors.json --overwrite
_base_ = []
from pld_mmdet.recipes.streets import quick_streets, source_row, tool_row

_labels = "data/foggy_streets/annotations/val_foggy_beta_0.02.json"


def _rows(name, title, method, seconds):
    return [
        source_row(of=name, title=title, seconds=560),
        tool_row(
            f"adapted{name}",
            f"{title}, adapt.py --method {method}",
            f"--method {method} --val {_labels}",
            name,
            seconds=seconds,
        ),
    ]


experiment = dict(
    name="foggy_streets_detectors",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="adapted.pth in the stock config",
    rows=[
        *_rows("", "Faster R-CNN", "lpld", 360),
        *_rows("_cascade", "Cascade R-CNN", "lpld", 420),
        *_rows("_retinanet", "RetinaNet", "adabn", 40),
    ],
)
