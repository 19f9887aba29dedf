# Open-vocabulary detection with *simulated* CLIP errors; see docs/marvel_ovd.md. The
# run's seed also draws the errors. Each row but the first two adds one part.
_base_ = []
from pld_mmdet.recipes.streets import quick_streets
from pld_mmdet.recipes.tables import row, table

_file = "annotations/ov/train_candidates_seed{seed}.json"
_options = [
    f"train_dataloader.dataset.dataset.ann_file={_file}",
    "val_dataloader=None",
    "val_cfg=None",
    "val_evaluator=None",
]
_quick = ["train_cfg.max_iters=12"]


def _row(name, title, seconds):
    return row(
        name or "marvel_ovd",
        title,
        *_options,
        config=f"configs/marvel_ovd/streets{'_' * bool(name)}{name}.py",
        init="start",
        evaluate=dict(test=None),
        quick=_quick,
        seconds=seconds,
    )


experiment = table(
    "streets_ovd",
    row(
        "start",
        "Start: base boxes from random weights",
        *_options,
        config="configs/marvel_ovd/streets_start.py",
        evaluate={},
        quick=_quick,
    ),
    _row("base_only", "Base boxes only", 90),
    _row("vl_plm", "All candidates as labels (VL-PLM)", 90),
    _row("views", "+ weak and strong view", 150),
    _row("stratified", "+ stratified assignment", 150),
    _row("mining", "+ online mining", 160),
    _row("", "+ reweighting (MarvelOVD)", 160),
    data=[
        "python tools/prepare.py foggy_streets",
        "python tools/make_ov_coco.py streets",
    ],
    seed_data="python tools/make_ov_coco.py streets --seed {seed}",
    quick=quick_streets(96, others=1, per_seed=True),
    metric="coco/AP50_novel",
    columns={
        "novel": ("test", "coco/AP50_novel"),
        "base": ("test", "coco/AP50_base"),
        "all": ("test", "coco/AP50"),
    },
    reported="network of the last iteration",
)
