# MarvelOVD where the simulated errors are systematic and the scores peaked: six epochs
# from a start that is the burn-in. Its gate failed (docs/lab/marvel_ovd.md):
#   python tools/reproduce.py configs/marvel_ovd/streets_v2.py --gate --seeds 10 11
_base_ = "../_base_/experiments/streets_ovd_v2.py"
from pld_mmdet.recipes.detection import swapped, the
from pld_mmdet.recipes.streets import warmed_cosine

how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && "
        "python tools/make_ov_coco.py streets --seed 0 --both"
    ),
    checkpoint="python tools/train.py configs/marvel_ovd/streets_v2_start.py",
)
load_from = "work_dirs/marvel_ovd/streets_v2_start/last.pth"
train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file="annotations/ov/train_candidates_v2_seed0.json"))
)
# the start's steps are counted in its checkpoint: no second burn-in
model = dict(burn_in=1500)
max_iters = 2400
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = warmed_cosine(max_iters)
truth = dict(the(_base_.custom_hooks, "PseudoTruthHook"), begin=1)
custom_hooks = swapped(_base_.custom_hooks, truth)
