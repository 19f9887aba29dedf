# What the collapse guard says of sound runs and of a slow decline: rows, rules and the
# commands are those of docs/lab/guard.md; Cascade's were not run.
_base_ = []
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row

_images = "data/foggy_streets/leftImg8bit_foggy/train/**/*beta_0.02.png"


def _source(name, title):
    source = f"configs/source/foggy_streets{name}.py"
    return row(
        f"source{name}",
        f"{title}, source only",
        config=source,
        evaluate=dict(fog=f"configs/source/foggy_streets{name}_on_fog.py"),
        quick=["train_cfg.max_iters=12", "train_cfg.val_interval=12"],
        seconds=560,
    )


def _adapted(row_name, title, name="", words=""):
    source = f"configs/source/foggy_streets{name}.py"
    return row(
        row_name,
        title,
        config=source,
        init=f"source{name}",
        command=f"python tools/adapt.py {{config}} {{init}} '{_images}' {words}"
        "--seed {seed} --out {out}",
        checkpoint="adapted.pth",
        evaluate=dict(fog=f"configs/source/foggy_streets{name}_on_fog.py"),
        quick=["--iterations", "12", "--evaluations", "1"],
        seconds=400,
    )


experiment = dict(
    name="foggy_streets_guard",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="adapted.pth in the stock config",
    rows=[
        _source("", "Faster R-CNN"),
        _adapted("sound", "Faster R-CNN, adapt.py"),
        _adapted(
            "decline",
            "Faster R-CNN, adapt.py, 20 x the rate",
            words="--method mean_teacher --lr 0.02 --threshold 0.3 ",
        ),
        _source("_cascade", "Cascade R-CNN"),
        _adapted("sound_cascade", "Cascade R-CNN, adapt.py", "_cascade"),
    ],
)
