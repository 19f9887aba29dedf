# LPLD like for like (docs/lab/lpld.md, A). Not run yet:
#   python tools/reproduce.py configs/lpld/streets_a.py --seeds 0 1 2 3 4 5 6 7 \
#       --rows best lpld --result docs/results/lpld_a.json
#   python tools/reproduce.py configs/lpld/streets_a.py --seeds 0 1 2 3 4 \
#       --rows mean_teacher_frozen lpld_frozen --result docs/results/lpld_frozen.json
_base_ = "./streets_clean.py"
from pld_mmdet.recipes.detection import quick_streets
from pld_mmdet.recipes.tables import row

_quick = ["train_cfg.max_iters=12", "train_cfg.val_interval=12"]


def _row(name, title, config):
    return row(
        name,
        title,
        config=f"configs/{config}.py",
        init="source",
        evaluate=dict(fog=None),
        quick=[*_quick, "expected_counts=None"],
        seconds=300,
    )


experiment = dict(
    _delete_=True,
    name="lpld_a",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        row(
            "source",
            "Source only",
            config="configs/source/foggy_streets.py",
            evaluate=dict(fog="configs/source/foggy_streets_on_fog.py"),
            quick=_quick,
            seconds=560,
        ),
        _row("best", "AdaBN + Mean Teacher, no erasing", "best/foggy_streets"),
        _row("lpld", "... + LPLD", "lpld/streets_clean"),
        _row(
            "mean_teacher_frozen",
            "Mean Teacher, the source's statistics",
            "mean_teacher/streets_frozen_norm",
        ),
        _row("lpld_frozen", "... + LPLD", "lpld/streets_frozen_norm"),
    ],
)
