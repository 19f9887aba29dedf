# The room between Mean Teacher and the oracle on FoggyStreets: the recipes that are to
# be beaten, and what each idea is worth alone. Runs from
# configs/mean_teacher/foggy_streets_combined.py.
_base_ = "../../mean_teacher/foggy_streets.py"

_clear = "configs/source/foggy_streets.py"
_fog = "configs/source/foggy_streets_on_fog.py"
_teacher = "configs/mean_teacher/foggy_streets.py"
_quick = ["train_cfg.max_iters=12", "train_cfg.val_interval=12"]
_adapted = dict(init="source", quick=[*_quick, "expected_counts=None"])

experiment = dict(
    _delete_=True,
    name="foggy_streets_room",
    data="python tools/prepare.py foggy_streets",
    quick=dict(
        data_args="--train 48 --val 16 --test 16 --root data/foggy_streets_quick",
        data_root=("data/foggy_streets/", "data/foggy_streets_quick/"),
    ),
    reported="teacher of the last iteration",
    rows=[
        dict(
            name="source",
            title="Source only",
            config=_clear,
            init=None,
            evaluate=dict(clear=_clear, fog=_fog),
            quick=_quick,
            seconds=560,
        ),
        dict(
            name="oracle",
            title="Oracle (foggy labels)",
            config="configs/oracle/foggy_streets.py",
            init=None,
            evaluate=dict(fog=_fog),
            quick=_quick,
            seconds=560,
        ),
        dict(
            name="adabn",
            title="AdaBN",
            config="configs/adabn/foggy_streets.py",
            init="source",
            evaluate=dict(fog=None),
            quick=["train_cfg.num_images=16", "expected_counts=None"],
            seconds=15,
        ),
        dict(
            name="mean_teacher",
            title="AdaBN + Mean Teacher",
            config=_teacher,
            evaluate=dict(fog=None),
            seconds=240,
            **_adapted,
        ),
        dict(
            name="irg",
            title="... IRG's threshold (0.9) and EMA",
            config="configs/mean_teacher/foggy_streets_irg.py",
            evaluate=dict(fog=None),
            seconds=240,
            **_adapted,
        ),
        dict(
            name="sf_ut",
            title="SF-UT",
            config="configs/sf_ut/foggy_streets.py",
            evaluate=dict(fog=None),
            seconds=260,
            **_adapted,
        ),
        dict(
            name="lpld",
            title="AdaBN + Mean Teacher + LPLD",
            config="configs/lpld/foggy_streets.py",
            evaluate=dict(fog=None),
            seconds=300,
            **_adapted,
        ),
        dict(
            name="lpld_sf_ut",
            title="SF-UT + LPLD",
            config="configs/sf_ut/lpld_foggy_streets.py",
            evaluate=dict(fog=None),
            seconds=320,
            **_adapted,
        ),
        dict(
            name="ignore_band",
            title="AdaBN + Mean Teacher, scores 0.3-0.7 ignored",
            config=_teacher,
            options=["model.ignore_above=0.3"],
            evaluate=dict(fog=None),
            seconds=250,
            **_adapted,
        ),
        dict(
            name="class_thresholds",
            title="AdaBN + Mean Teacher, class-wise thresholds",
            config="configs/mean_teacher/foggy_streets_class_thresholds.py",
            evaluate=dict(fog=None),
            seconds=240,
            **_adapted,
        ),
        dict(
            name="large_view",
            title="AdaBN + Mean Teacher, teacher sees x2",
            config=_teacher,
            options=["model.teacher_scales=(2.0,)"],
            evaluate=dict(fog=None),
            seconds=420,
            **_adapted,
        ),
        dict(
            name="two_views",
            title="AdaBN + Mean Teacher, teacher sees x1 and x2",
            config=_teacher,
            options=["model.teacher_scales=(1.0,2.0)"],
            evaluate=dict(fog=None),
            seconds=480,
            **_adapted,
        ),
        dict(
            name="small_student",
            title="AdaBN + Mean Teacher, student sees x0.5 to x1",
            config="configs/mean_teacher/foggy_streets_small_student.py",
            evaluate=dict(fog=None),
            seconds=220,
            **_adapted,
        ),
        dict(
            name="combined",
            title="AdaBN + Mean Teacher, two views and ignored scores",
            config="configs/mean_teacher/foggy_streets_combined.py",
            evaluate=dict(fog=None),
            seconds=480,
            **_adapted,
        ),
    ],
)
