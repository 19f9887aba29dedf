# What the collapse guard says of sound runs and of a slow decline: rows, rules, the
# commands and what came out are in docs/lab/guard.md.
_base_ = []
from pld_mmdet.recipes.streets import quick_streets, source_row, tool_row

experiment = dict(
    name="foggy_streets_guard",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="adapted.pth in the stock config",
    rows=[
        source_row(False, title="Faster R-CNN", seconds=560),
        tool_row("sound", "Faster R-CNN, adapt.py", "--method lpld", seconds=400),
        tool_row(
            "decline",
            "Faster R-CNN, adapt.py, 20 x the rate",
            "--method mean_teacher --lr 0.02 --threshold 0.3",
            seconds=400,
        ),
        source_row(False, "_cascade", "Cascade R-CNN", seconds=560),
        tool_row(
            "sound_cascade",
            "Cascade R-CNN, adapt.py",
            "--method lpld",
            of="_cascade",
            seconds=400,
        ),
    ],
)
