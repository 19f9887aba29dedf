# What `tools/reproduce.py` runs, row by row. `seconds` is only there for the first
# estimate of the time left (two cores, one thread a job).
_base_ = []
from pld_mmdet.recipes.detection import quick_streets
from pld_mmdet.recipes.tables import row

_clear = "configs/source/foggy_streets.py"
_fog = "configs/source/foggy_streets_on_fog.py"
_quick = ["train_cfg.max_iters=12", "train_cfg.val_interval=12"]
experiment = dict(
    name="foggy_streets",
    data="python tools/prepare.py foggy_streets",
    # `--quick` tries the chain; every path moves to the small data set.
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        row(
            "source",
            "Source only",
            config=_clear,
            evaluate=dict(clear=_clear, fog=_fog),
            quick=_quick,
        ),
        row(
            "oracle",
            "Oracle (foggy labels)",
            config="configs/oracle/foggy_streets.py",
            evaluate=dict(fog=_fog),
            quick=_quick,
        ),
        row(
            "adabn",
            "AdaBN",
            config="configs/adabn/foggy_streets.py",
            init="source",
            evaluate=dict(fog="configs/adabn/foggy_streets.py"),
            quick=["train_cfg.num_images=16", "expected_counts=None"],
        ),
        row(
            "mean_teacher_no_adabn",
            "Mean Teacher without AdaBN",
            config="configs/mean_teacher/foggy_streets_no_adabn.py",
            init="source",
            evaluate=dict(fog="configs/mean_teacher/foggy_streets_no_adabn.py"),
            quick=[*_quick, "expected_counts=None"],
        ),
        row(
            "mean_teacher",
            "AdaBN + Mean Teacher",
            config="configs/mean_teacher/foggy_streets.py",
            init="source",
            evaluate=dict(fog="configs/mean_teacher/foggy_streets.py"),
            quick=[*_quick, "expected_counts=None"],
        ),
        row(
            "lpld",
            "AdaBN + Mean Teacher + LPLD",
            config="configs/lpld/foggy_streets.py",
            init="source",
            evaluate=dict(fog="configs/lpld/foggy_streets.py"),
            quick=[*_quick, "expected_counts=None"],
        ),
    ],
)
