# Few labels, design S (docs/lab/soft_teacher.md and dual_polish.md): 160 labelled and
# 3,040 unlabelled images, the fold is the seed. Runs from soft_teacher/streets_s.py.
_base_ = "../../soft_teacher/streets_5pct.py"
from pld_mmdet.recipes.streets import two_sets
from pld_mmdet.recipes.tables import row, table

_large = "data/foggy_streets_3200"
_fold = "semi_anns/train.{seed}@5"
_both = [
    f"train_dataloader.dataset.dataset.datasets.0.ann_file={_fold}.json",
    f"train_dataloader.dataset.dataset.datasets.1.ann_file={_fold}-unlabeled.json",
]
_labels = [f"train_dataloader.dataset.dataset.ann_file={_fold}.json"]
_no_val = ["train_cfg.val_begin=1000000"]
_soft = "configs/soft_teacher/streets_s.py"


def _row(name, title, config, seconds, options, init="start"):
    return row(
        name,
        title,
        *_no_val,
        *options,
        config=config,
        init=init,
        evaluate=dict(test=None),
        quick=["train_cfg.max_iters=12"],
        seconds=seconds,
    )


_start = _row(
    "start",
    "Start: 160 labelled images, 3,000 updates",
    "configs/soft_teacher/streets_s_start.py",
    1500,
    _labels,
    None,
)
_start["evaluate"] = dict(test=None, gate="configs/gates/streets_s.py")

experiment = table(
    "streets_s",
    _start,
    _row(
        "supervised",
        "Supervised, 2,400 updates more",
        "configs/soft_teacher/streets_s_supervised.py",
        1800,
        _labels,
    ),
    _row(
        "threshold",
        "Mean Teacher with labels: one threshold, no weighting, no jitter",
        _soft,
        2200,
        [*_both, "model.reg_threshold=None", "model.weigh_background=False"],
    ),
    _row(
        "supervised_strong",
        "Supervised + strong views",
        "configs/soft_teacher/streets_s_supervised_strong.py",
        1800,
        _labels,
    ),
    _row("soft_teacher", "Soft Teacher", _soft, 2200, _both),
    _row(
        "no_jitter",
        "... without jitter selection",
        _soft,
        2200,
        [*_both, "model.reg_threshold=None"],
    ),
    _row(
        "twice",
        "... boxes once more through the teacher's box head",
        _soft,
        2200,
        [*_both, "model.reg_threshold=None", "model.refine_boxes=True"],
    ),
    _row(
        "dual_polish", "Dual polishing", "configs/dual_polish/streets_s.py", 3200, _both
    ),
    _delete_=True,
    **two_sets(160, per_seed=True, cfg_options=["expected_counts=None"]),
    seed_data=f"python tools/prepare.py coco_semi --root {_large} "
    "--ann annotations/train.json --percents 5 --folds {seed}",
    metric="coco/bbox_mAP",
    columns={
        "AP": ("test", "coco/bbox_mAP"),
        "AP50": ("test", "coco/bbox_mAP_50"),
        "AP75": ("test", "coco/bbox_mAP_75"),
    },
    gates=[
        dict(
            title="Boxes above 0.9 on val, precision",
            row="start",
            on="gate",
            metric="boxes/precision@0.9",
            at_least=0.9,
        ),
        dict(
            title="Boxes above 0.9 on val, recall",
            row="start",
            on="gate",
            metric="boxes/recall@0.9",
            at_least=0.25,
        ),
    ],
    reported="teacher (supervised rows: average of the network)",
)
