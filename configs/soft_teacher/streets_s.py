# Soft Teacher, design S (docs/lab/soft_teacher.md): 160 labelled and 3,040 unlabelled
# images, 1 : 3, alpha 3, 2,400 updates from a plain start. Its gate passed, and its
# first look lost 6.7 AP to labels alone; that page has the reasons. Whole, it would be:
#   python tools/reproduce.py configs/soft_teacher/streets_s.py --seeds 0 1 2 \
#       --rows start supervised supervised_strong threshold soft_teacher no_jitter \
#       --result docs/results/streets_s.json --overwrite
_base_ = "../_base_/experiments/streets_s.py"
from pld_mmdet.recipes import drops, warm_up
from pld_mmdet.recipes.detection import swapped, the

large = "data/foggy_streets_3200/"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && python tools/prepare.py "
        "foggy_streets --root data/foggy_streets_3200 --train 3200 --val 0 --test 0 && "
        "python tools/prepare.py coco_semi --root data/foggy_streets_3200 "
        "--ann annotations/train.json --percents 5"
    ),
    checkpoint="python tools/train.py configs/soft_teacher/streets_s_start.py",
)
load_from = "work_dirs/soft_teacher/streets_s_start/last.pth"
expected_counts = dict(train=3200, val=200, test=600)
labelled = _base_.labelled
labelled.data_root = large
unlabelled = _base_.unlabelled
unlabelled.data_root = large
train_dataloader = dict(
    batch_size=4,
    sampler=dict(batch_size=4, source_ratio=[1, 3]),
    dataset=dict(dataset=dict(datasets=[labelled, unlabelled])),
)
model = dict(unsup_weight=3.0)
hooks = swapped(
    _base_.custom_hooks, dict(type="pld_mmdet.RampedEMAHook", keep=0.999, warm_up=0)
)
truth = dict(the(hooks, "PseudoTruthHook"), ann_file=large + "annotations/train.json")
custom_hooks = swapped(hooks, truth)
max_iters = 2400
first_drop = 1600
train_cfg = dict(max_iters=max_iters, val_interval=800)
param_scheduler = [warm_up(0.01, 100), drops(first_drop, 2130)]
default_hooks = dict(checkpoint=dict(interval=400))
