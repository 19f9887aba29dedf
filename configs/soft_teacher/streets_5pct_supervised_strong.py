# The rival that is easily forgotten: only labels, but with the strong view's changes.
# It goes on from the same burn-in as the semi-supervised rows, for as many updates.
_base_ = "./streets_5pct_burn_in.py"

load_from = "work_dirs/soft_teacher/streets_5pct_burn_in/last.pth"
how_to_get = dict(
    checkpoint="python tools/train.py configs/soft_teacher/streets_5pct_burn_in.py"
)
max_iters = 270
train_cfg = dict(max_iters=max_iters, val_interval=90)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="MultiStepLR", by_epoch=False, milestones=[180, 240], gamma=0.1),
]
