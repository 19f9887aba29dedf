# The longer schedule on test seeds that nobody has looked at (docs/lab/room.md):
#   python tools/reproduce.py configs/_base_/experiments/foggy_streets_fresh.py \
#       --seeds 20 21 22 --result docs/results/foggy_streets_fresh.json --overwrite
_base_ = []
from pld_mmdet.recipes.streets import (
    adabn_row,
    adapted_row,
    oracle_row,
    source_row,
    two_sets,
)

experiment = dict(
    name="foggy_streets_fresh",
    **two_sets(),
    reported="teacher of the last iteration",
    rows=[
        source_row(clear=False, seconds=560),
        adabn_row(),
        *(
            adapted_row(*names, seconds=seconds)
            for seconds, *names in (
                (240, "best", "best, 400 iterations", "best/foggy_streets"),
                (1800, "long", "best, 3,200 images, 2,000 iterations", "best/long"),
            )
        ),
        oracle_row(),
    ],
)
