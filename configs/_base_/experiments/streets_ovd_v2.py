# Open-vocabulary detection where CLIP's errors are systematic (version 2 of the
# candidates), and random ones beside them as the control; docs/lab/marvel_ovd.md. The
# seed also draws the errors. Runs from configs/marvel_ovd/streets_v2.py.
_base_ = "../../marvel_ovd/streets.py"
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row, table

_file = "train_dataloader.dataset.dataset.ann_file=annotations/ov/train_candidates"
_options = ["val_dataloader=None", "val_cfg=None", "val_evaluator=None"]
_start = "streets_v2_start"
_make = "python tools/make_ov_coco.py streets --seed {seed}"


def _row(name, title, seconds, *options, version=2, config="streets_v2"):
    start = name.startswith("start")
    tag = "_v2" if version == 2 else ""
    return row(
        name,
        title,
        f"{_file}{tag}_seed{{seed}}.json",
        *_options,
        *options,
        config=f"configs/marvel_ovd/{config}.py",
        init=None if start else f"start{'' if version == 2 else '_v1'}",
        evaluate={} if start else dict(test=None),
        quick=["train_cfg.max_iters=12"],
        seconds=seconds,
    )


_plm = ("model.stratified=False", "model.mining=False", "model.reweighting=False")
_static = ("model.burn_in=1000000", "model.reweighting=False")

experiment = table(
    "streets_ovd_v2",
    _row("start", "Start: base and candidates >= 0.9", 1200, config=_start),
    _row("views", "All candidates as labels, both views (VL-PLM)", 2200, *_plm),
    _row(
        "static_9",
        "Candidates >= 0.9 as labels",
        2200,
        *_static,
        "model.burn_in_threshold=0.9",
    ),
    _row(
        "static_8",
        "Candidates >= 0.8 as labels",
        2200,
        *_static,
        "model.burn_in_threshold=0.8",
    ),
    _row("mining", "MarvelOVD without reweighting", 2300, "model.reweighting=False"),
    _row("marvel_ovd", "MarvelOVD", 2300),
    _row(
        "start_v1", "Random errors: start", 1200, version=1, config="streets_v2_start"
    ),
    _row("views_v1", "Random errors: VL-PLM, both views", 2200, *_plm, version=1),
    _row("marvel_ovd_v1", "Random errors: MarvelOVD", 2300, version=1),
    _delete_=True,
    data=[
        "python tools/prepare.py foggy_streets",
        "python tools/make_ov_coco.py streets",
    ],
    seed_data=_make + " --both",
    quick=quick_streets(96, others=1, per_seed=True),
    metric="coco/AP50_novel",
    columns={
        "novel": ("test", "coco/AP50_novel"),
        "base": ("test", "coco/AP50_base"),
        "all": ("test", "coco/AP50"),
    },
    gates=[
        dict(
            title="Candidates that the rule keeps, precision",
            row="mining",
            on="pseudo",
            metric="novel/precision",
            at_least=0.8,
        ),
        dict(
            title="Novel objects that they reach",
            row="mining",
            on="pseudo",
            metric="novel/recall_novel",
            at_least=0.45,
        ),
    ],
    reported="network of the last iteration",
)
