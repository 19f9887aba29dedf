# The room between Mean Teacher and the oracle on FoggyStreets: the recipes that are to
# be beaten, and what beats them. Runs from configs/best/foggy_streets.py.
_base_ = "../../mean_teacher/foggy_streets.py"
from pld_mmdet.recipes.detection import quick_streets
from pld_mmdet.recipes.tables import row

_clear = "configs/source/foggy_streets.py"
_fog = "configs/source/foggy_streets_on_fog.py"
_images = "data/foggy_streets/leftImg8bit_foggy/train/**/*beta_0.02.png"
_labels = "data/foggy_streets/annotations/val_foggy_beta_0.02.json"
_quick = ["train_cfg.max_iters=12", "train_cfg.val_interval=12"]


def _row(name, title, config, seconds, **more):
    return dict(
        name=name,
        title=title,
        config=config,
        init="source",
        evaluate=dict(fog=None),
        quick=[*_quick, "expected_counts=None"],
        seconds=seconds,
        **more,
    )


experiment = dict(
    _delete_=True,
    name="foggy_streets_room",
    data="python tools/prepare.py foggy_streets",
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
            evaluate=dict(fog=None),
            quick=["train_cfg.num_images=16", "expected_counts=None"],
        ),
        _row(
            "mean_teacher",
            "AdaBN + Mean Teacher",
            "configs/mean_teacher/foggy_streets.py",
            240,
        ),
        _row(
            "irg",
            "... IRG's threshold (0.9) and EMA",
            "configs/mean_teacher/foggy_streets_irg.py",
            240,
        ),
        _row("sf_ut", "SF-UT", "configs/sf_ut/foggy_streets.py", 260),
        _row(
            "lpld", "AdaBN + Mean Teacher + LPLD", "configs/lpld/foggy_streets.py", 300
        ),
        _row("lpld_sf_ut", "SF-UT + LPLD", "configs/sf_ut/lpld_foggy_streets.py", 320),
        _row(
            "best",
            "AdaBN + Mean Teacher, strong view without erasing",
            "configs/best/foggy_streets.py",
            240,
        ),
        row(
            "adapted",
            "adapt.py as it comes (LPLD, without erasing)",
            config=_clear,
            init="source",
            command=f"python tools/adapt.py {{config}} {{init}} '{_images}' "
            f"--val {_labels} --seed {{seed}} --out {{out}}",
            checkpoint="adapted.pth",
            evaluate=dict(fog=_fog),
            quick=["--iterations", "12", "--evaluations", "1"],
        ),
    ],
)
