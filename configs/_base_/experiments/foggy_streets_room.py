# The room between Mean Teacher and the oracle on FoggyStreets: the recipes that are to
# be beaten, and what beats them. Runs from configs/best/foggy_streets.py.
_base_ = "../../mean_teacher/foggy_streets.py"
from pld_mmdet.recipes.streets import (
    adabn_row,
    adapted_row,
    oracle_row,
    quick_streets,
    source_row,
    tool_row,
)

_labels = "data/foggy_streets/annotations/val_foggy_beta_0.02.json"


def _row(name, title, config, seconds):
    made = adapted_row(name, title, config, seconds=seconds)
    del made["options"]
    return made


experiment = dict(
    _delete_=True,
    name="foggy_streets_room",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        source_row(),
        oracle_row(),
        adabn_row(),
        _row("mean_teacher", "AdaBN + Mean Teacher", "mean_teacher/foggy_streets", 240),
        _row(
            "irg",
            "... IRG's threshold (0.9) and EMA",
            "mean_teacher/foggy_streets_irg",
            240,
        ),
        _row("sf_ut", "SF-UT", "sf_ut/foggy_streets", 260),
        _row("lpld", "AdaBN + Mean Teacher + LPLD", "lpld/foggy_streets", 300),
        _row("lpld_sf_ut", "SF-UT + LPLD", "sf_ut/lpld_foggy_streets", 320),
        _row(
            "best",
            "AdaBN + Mean Teacher, strong view without erasing",
            "best/foggy_streets",
            240,
        ),
        tool_row(
            "adapted",
            "adapt.py as it comes (LPLD, without erasing)",
            f"--method lpld --val {_labels}",
        ),
    ],
)
