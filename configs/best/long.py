# The best recipe on 3,200 images for 2,000 iterations. 0.13 ** (1 / 2000): as much of
# the source is left at the end as after 400 iterations of 0.995.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes.detection import swapped

how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && python tools/prepare.py "
        "foggy_streets --root data/foggy_streets_3200 --train 3200 --val 0 --test 0"
    )
)
expected_counts = dict(train=3200, val=200, test=600)
train_dataloader = dict(
    dataset=dict(dataset=dict(data_root="data/foggy_streets_3200/"))
)
train_cfg = dict(max_iters=2000, val_interval=400)
ema = dict(type="pld_mmdet.TeacherEMAHook", keep=0.99898, unit="iter")
custom_hooks = swapped(_base_.custom_hooks, ema)
