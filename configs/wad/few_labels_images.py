# WAD on Fashion-MNIST where 60 % of the unlabelled images are of classes that nobody
# asked for: six classes of clothes and shoes have labels, four others none.
_base_ = "../_base_/contests/few_labels_images.py"
from pld_mmdet.recipes import from_each, loader, stage, staged
from pld_mmdet.recipes.fashion import STEPS, fashion, small_resnet, to_zero

asked = [0, 2, 3, 5, 7, 8]
mixed = dict(
    type="pld_mmdet.Mismatched",
    dataset=fashion("train"),
    classes=asked,
    labelled=10,
    pool=6000,
    mismatch=0.6,
)
model = dict(
    _delete_=True,
    type="pld_mmdet.WAD",
    student=small_resnet(6),
    teacher=small_resnet(6),
    num_classes=6,
    num_samples=60 + 6000 + 9000,
    width=64,
    rounds=2,
    noise=0.02,
    area=(0.3, 1.0),
)
everything = loader(mixed, 500)
graded = loader(
    dict(type="pld_mmdet.Graded", dataset=mixed, file="{folder}/knowledge.pth"),
    128,
    sampler=from_each(128, 1, 1),
)
third = dict(data=graded, work=everything, schedule=[to_zero(STEPS // 3)])
rounds = [stage(f"round_{r}", STEPS // 3, **third) for r in (1, 2, 3)]
train_dataloader = dict(_delete_=True, **loader(mixed, 128, train=True))
train_cfg = staged(
    stage("teacher", STEPS, schedule=[to_zero()]), *rounds, _delete_=True
)
param_scheduler = None
custom_hooks = _base_.custom_hooks[:-1]  # no EMA
find_unused_parameters = True
known = dict(_delete_=True, type="pld_mmdet.Mismatched", classes=asked)
val_dataloader = dict(dataset=dict(known, dataset=fashion("val")))
test_dataloader = dict(dataset=dict(known, dataset=fashion("test")))
