# The source of LPLD's second design (docs/lab/lpld.md, B): three times as long, sampled
# RoIs as released (512), 1000 and 300 proposals (released: 2000 and 300).
_base_ = "../source/foggy_streets.py"
from pld_mmdet.recipes.streets import warmed_cosine

model = dict(
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        rcnn=dict(sampler=dict(num=512)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=2000, max_per_img=300)),
)
max_iters = 4500
train_cfg = dict(max_iters=max_iters, val_interval=1500)
param_scheduler = warmed_cosine(max_iters)
