# LPLD's second design (docs/lab/lpld.md, B), only if its gate passes: 3,200 foggy
# images, 1,000 updates, a teacher that keeps 0.75 every 100 (released: every epoch).
_base_ = "./streets_clean.py"
from pld_mmdet.recipes.detection import swapped

load_from = "work_dirs/lpld/streets_b_source/last.pth"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && python tools/prepare.py "
        "foggy_streets --root data/foggy_streets_3200 --train 3200 --val 0 --test 0"
    ),
    checkpoint="python tools/train.py configs/lpld/streets_b_source.py",
)
expected_counts = dict(train=3200, val=200, test=600)
model = dict(
    detector=dict(
        train_cfg=dict(
            rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
            rcnn=dict(sampler=dict(num=512)),
        ),
        test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=300)),
    )
)
train_dataloader = dict(
    dataset=dict(dataset=dict(data_root="data/foggy_streets_3200/"))
)
train_cfg = dict(max_iters=1000, val_interval=500)
ema = dict(type="pld_mmdet.TeacherEMAHook", keep=0.75, unit="iter", interval=100)
custom_hooks = swapped(_base_.custom_hooks, ema)
