# SimCLRv2 on Fashion-MNIST with few labels: pretrained, tuned and distilled into
# itself, each within the updates of a student.
_base_ = "../_base_/contests/few_labels_images.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.fashion import STEPS, few, small_resnet, to_zero

model = dict(
    _delete_=True,
    type="pld_mmdet.SimCLRv2",
    student=small_resnet(),
    teacher=small_resnet(),
    num_classes=10,
    outputs=64,
    temperature=0.2,
    view="small_images",
)
labels = loader(few(), 64, train=True)
tuned = dict(data=labels, optim=optimizer("AdamW", 1e-3, weight_decay=0.05))
train_cfg = staged(
    stage("pretrain", STEPS, schedule=[to_zero()]),
    stage("finetune", STEPS // 2, schedule=[to_zero(STEPS // 2)], **tuned),
    stage("distill", STEPS, schedule=[to_zero()]),
    _delete_=True,
)
param_scheduler = None
custom_hooks = _base_.custom_hooks[:-1]  # no EMA
find_unused_parameters = True
