# 10 shots of all 8 classes, drawn from sparse scenes (at most 3 objects, as on VOC):
# what is not drawn is trained as background.
_base_ = "./streets_3shot.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import train_set

data_root = few_shot.STREAM
load_from, _made = few_shot.extended(
    "defrcn/streets_stream_base", f"{data_root}{_base_.stem}_10shot_seed0.json"
)
how_to_get = dict(data=few_shot.STREAM_FILES, checkpoint=_made)
train_dataloader = dict(
    batch_size=8,
    **train_set(data_root=data_root, ann_file=_base_.stem + "_10shot_seed0.json"),
)
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = test_evaluator = dict(ann_file=data_root + _base_.stem + "_test.json")
train_cfg, param_scheduler = few_shot.length(600)
auto_scale_lr = dict(base_batch_size=8)
