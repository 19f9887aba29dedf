# Few labels: 5 % of FoggyStreets' clear training images, the same 40 for all rows and
# seeds (fold 1); the seed draws weights, batches and views. Every row has 1470 updates
# of the student: from random weights, or 1200 of the burn-in and 270 of its own.
_base_ = []
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row, table

_options = ["train_cfg.val_begin=1000000"]  # the test of each row is evaluation enough
_quick = ["train_cfg.max_iters=12"]


def _row(name, title, config, seconds, init="burn_in"):
    return row(
        name,
        title,
        *_options,
        config=f"configs/{config}.py",
        init=init,
        evaluate=dict(test=None),
        quick=_quick,
        seconds=seconds,
    )


experiment = table(
    "streets_semi",
    _row(
        "burn_in",
        "Supervised + strong views, burn-in only",
        "soft_teacher/streets_5pct_burn_in",
        270,
        init=None,
    ),
    _row(
        "supervised",
        "Supervised, 40 images",
        "soft_teacher/streets_5pct_supervised",
        320,
        init=None,
    ),
    _row(
        "supervised_strong",
        "Supervised + strong views",
        "soft_teacher/streets_5pct_supervised_strong",
        70,
    ),
    _row("soft_teacher", "Soft Teacher", "soft_teacher/streets_5pct", 150),
    _row(
        "no_weighting",
        "... without background weighting",
        "soft_teacher/streets_5pct_no_weighting",
        150,
    ),
    _row(
        "no_jitter",
        "... without jitter selection",
        "soft_teacher/streets_5pct_no_jitter",
        150,
    ),
    _row("dual_polish", "Dual polishing", "dual_polish/streets_5pct", 220),
    _row("boxes_only", "... boxes only", "dual_polish/streets_5pct_boxes_only", 200),
    _row(
        "categories_only",
        "... categories only",
        "dual_polish/streets_5pct_categories_only",
        200,
    ),
    data=[
        "python tools/prepare.py foggy_streets",
        "python tools/prepare.py coco_semi --root data/foggy_streets "
        "--ann annotations/train.json --percents 5",
    ],
    quick=quick_streets(160, others=1, cfg_options=["expected_counts=None"]),
    metric="coco/bbox_mAP",
    columns={
        "AP": ("test", "coco/bbox_mAP"),
        "AP50": ("test", "coco/bbox_mAP_50"),
        "AP75": ("test", "coco/bbox_mAP_75"),
    },
    reported="teacher (supervised rows: average of the network)",
)
