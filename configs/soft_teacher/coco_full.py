# Soft Teacher with all of COCO's labels and its 123k unlabelled images (720k
# iterations; the authors' longer run of R50 has 1440k). 8 GPUs of 8 images, half of
# them labelled.
_base_ = "./coco_10pct.py"
from pld_mmdet.recipes import drops, warm_up

how_to_get = dict(
    data=(
        "put train2017, unlabeled2017, val2017 and annotations of COCO into data/coco, "
        "then: python tools/prepare.py coco_semi --root data/coco"
    )
)
labelled = _base_.labelled
labelled.ann_file = "annotations/instances_train2017.json"
unlabelled = _base_.unlabelled
unlabelled.ann_file = "annotations/instances_unlabeled2017.json"
unlabelled.data_prefix = dict(img="unlabeled2017/")
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    sampler=dict(batch_size=8, source_ratio=[1, 1]),
    dataset=dict(dataset=dict(datasets=[labelled, unlabelled])),
)
model = dict(unsup_weight=2.0)

max_iters = 720000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [warm_up(0.001, 500), drops(480000, 640000)]
auto_scale_lr = dict(enable=False, base_batch_size=64)
