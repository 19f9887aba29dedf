# What `tools/reproduce.py` runs, row by row.
_base_ = []
from pld_mmdet.recipes.streets import (
    adabn_row,
    adapted_row,
    oracle_row,
    quick_streets,
    source_row,
)


def _row(name, title, config):
    return adapted_row(name, title, config, f"configs/{config}.py")


experiment = dict(
    name="foggy_streets",
    data="python tools/prepare.py foggy_streets",
    # `--quick` tries the chain; every path moves to the small data set.
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        source_row(),
        oracle_row(),
        adabn_row("configs/adabn/foggy_streets.py"),
        _row(
            "mean_teacher_no_adabn",
            "Mean Teacher without AdaBN",
            "mean_teacher/foggy_streets_no_adabn",
        ),
        _row("mean_teacher", "AdaBN + Mean Teacher", "mean_teacher/foggy_streets"),
        _row("lpld", "AdaBN + Mean Teacher + LPLD", "lpld/foggy_streets"),
    ],
)
