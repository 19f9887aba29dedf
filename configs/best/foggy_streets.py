# AdaBN + Mean Teacher whose strong view loses colour and sharpness, but no part of the
# image. The released views also fill up to three rectangles with noise, each of up to a
# fifth of the image; the boxes underneath stay, and the student learns to see objects
# in noise. What else was tried, and what it was worth: docs/results.md. The table:
#   python tools/reproduce.py configs/best/foggy_streets.py --seeds 0 1 2 \
#       --result docs/results/foggy_streets_room.json --overwrite
_base_ = "../_base_/experiments/foggy_streets_room.py"
from pld_mmdet.recipes.detection import unerased

train_pipeline, train_dataloader = unerased(_base_.train_pipeline)
