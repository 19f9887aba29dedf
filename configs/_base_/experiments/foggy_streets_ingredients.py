# The room on val with seeds 10 and 11 (docs/lab/room.md): four ceilings and the free
# looks. Runs from configs/best/ingredients.py.
_base_ = "../../best/long.py"
from pld_mmdet.recipes.streets import two_sets
from pld_mmdet.recipes.tables import row

_val = dict(val="configs/best/on_val.py")
_quick = ["train_cfg.max_iters=12", "train_cfg.val_interval=12"]
_best = "configs/best/foggy_streets.py"
_adabn = "configs/adabn/foggy_streets.py"
# Five teachers to average, at the last 200 iterations.
_five = [
    "default_hooks.checkpoint.interval=40",
    "default_hooks.checkpoint.max_keep_ckpts=5",
]


def _row(name, title, config, seconds, options=(), init="source", **more):
    return row(
        name,
        title,
        *list(options),
        config=config,
        init=init,
        evaluate=_val,
        quick=[*_quick, "expected_counts=None"],
        seconds=seconds,
        **more,
    )


def _adabn_row(name, title, images, **more):
    return row(
        name,
        title,
        f"train_cfg.num_images={images}",
        config=_adabn,
        evaluate=_val,
        quick=["expected_counts=None"],
        seconds=20,
        **more,
    )


experiment = dict(
    _delete_=True,
    name="foggy_streets_ingredients",
    **two_sets(),
    reported="teacher of the last iteration, on val",
    rows=[
        row(
            "source",
            "Source only",
            config="configs/source/foggy_streets.py",
            init=None,
            evaluate=_val,
            quick=_quick,
            seconds=560,
        ),
        _row("best", "best, 400 iterations", _best, 240, _five),
        *[
            _row(f"ceiling_{n}", title, "configs/best/ceiling.py", 240, [option])
            for n, title, option in (
                (1, "ceiling: all true boxes", "model.kind=all"),
                (2, "ceiling: true boxes of what is found", "model.kind=hit"),
                (3, "ceiling: what is missed is nobody's", "model.kind=spared"),
                (4, "ceiling: true small boxes too", "model.kind=small"),
            )
        ],
        _adabn_row("adabn", "AdaBN, 200 images", 200, init="source"),
        _adabn_row("adabn_800", "AdaBN, 800 images", 800, init="source"),
        _adabn_row(
            "adabn_again",
            "AdaBN once more on best's teacher",
            200,
            init="best",
            prepare="python tools/export.py {init} {out} --overwrite",
        ),
        row(
            "mean_of_5",
            "mean of best's last five teachers",
            config=_best,
            init="best",
            prepare="python tools/export.py {init} {out} --mean-of 5 --overwrite",
            trained=False,
            evaluate=_val,
        ),
        *[
            _row(
                f"proposals_{count}",
                f"best, {count} proposals of the teacher",
                _best,
                260,
                [
                    f"model.detector.test_cfg.rpn.max_per_img={count}",
                    f"model.detector.test_cfg.rpn.nms_pre={2 * count}",
                ],
            )
            for count in (500, 1000)
        ],
        _row(
            "long", "best, 3,200 images, 2,000 iterations", "configs/best/long.py", 1300
        ),
    ],
)
