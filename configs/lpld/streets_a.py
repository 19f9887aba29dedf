# LPLD like for like (docs/lab/lpld.md, A):
#   python tools/reproduce.py configs/lpld/streets_a.py --seeds 0 1 2 3 4 5 6 7 \
#       --rows best lpld --result docs/results/lpld_a.json --overwrite
#   python tools/reproduce.py configs/lpld/streets_a.py --seeds 0 1 2 3 4 \
#       --rows mean_teacher_frozen lpld_frozen --overwrite \
#       --result docs/results/lpld_frozen.json
_base_ = "./streets_clean.py"
from pld_mmdet.recipes.streets import adapted_row, quick_streets, source_row

experiment = dict(
    _delete_=True,
    name="lpld_a",
    data="python tools/prepare.py foggy_streets",
    quick=quick_streets(48),
    reported="teacher of the last iteration",
    rows=[
        source_row(clear=False, seconds=560),
        *(
            adapted_row(*names, seconds=300)
            for names in (
                ("best", "AdaBN + Mean Teacher, no erasing", "best/foggy_streets"),
                ("lpld", "... + LPLD", "lpld/streets_clean"),
                (
                    "mean_teacher_frozen",
                    "Mean Teacher, the source's statistics",
                    "mean_teacher/streets_frozen_norm",
                ),
                ("lpld_frozen", "... + LPLD", "lpld/streets_frozen_norm"),
            )
        ),
    ],
)
