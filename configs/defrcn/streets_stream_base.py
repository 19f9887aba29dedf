# Base detector of the longer stream (docs/lab/ps_ttl.md): 3,200 images, 4,000 updates.
_base_ = "./streets_base.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set
from pld_mmdet.recipes.streets import warmed_cosine

data_root = few_shot.STREAM
how_to_get = dict(data=few_shot.STREAM_FILES)
expected_counts = dict(train=3200)
train_dataloader = train_set(data_root=data_root, indices=3200)
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = test_evaluator = dict(
    ann_file=data_root + _base_.stem + "_test_base.json"
)
max_iters = 4000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = warmed_cosine(max_iters)
