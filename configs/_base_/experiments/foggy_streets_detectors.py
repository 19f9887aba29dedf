# tools/adapt.py on three differently built detectors, by the commands of docs/adapt.md:
#   python tools/reproduce.py configs/_base_/experiments/foggy_streets_detectors.py \
#       --seeds 0 1 2 --result docs/results/foggy_streets_detectors.json
_base_ = []
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row

_images = "data/foggy_streets/leftImg8bit_foggy/train/**/*beta_0.02.png"
_labels = "data/foggy_streets/annotations/val_foggy_beta_0.02.json"


def _rows(name, title, method, seconds):
    source = f"configs/source/foggy_streets{name}.py"
    fog = f"configs/source/foggy_streets{name}_on_fog.py"
    return [
        row(
            f"source{name}",
            f"{title}, source only",
            config=source,
            evaluate=dict(clear=source, fog=fog),
            quick=["train_cfg.max_iters=12", "train_cfg.val_interval=12"],
            seconds=560,
        ),
        row(
            f"adapted{name}",
            f"{title}, adapt.py --method {method}",
            config=source,
            init=f"source{name}",
            command=f"python tools/adapt.py {{config}} {{init}} '{_images}' "
            f"--method {method} --val {_labels} --seed {{seed}} --out {{out}}",
            checkpoint="adapted.pth",
            evaluate=dict(fog=fog),
            quick=["--iterations", "12", "--evaluations", "1"],
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
