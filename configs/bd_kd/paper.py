# BD-KD on CIFAR-100, a ResNet-8x4 beside a ResNet-32x4. The paper's optimizer settings
# were not found: this is the recipe that distillation papers share on CIFAR-100 (SGD,
# 240 epochs, rate 0.05 divided by 10 at 150, 180 and 210, batches of 64).
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]
from pld_mmdet.recipes import loader, optimizer
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(100))
network = dict(
    type="pld_mmdet.CIFARResNet",
    num_classes=100,
    widths=(64, 128, 256),
    stem=32,
    pre_activation=False,
)
model = dict(
    type="pld_mmdet.BDKD",
    student=dict(network, blocks=(1, 1, 1)),
    teacher=dict(network, blocks=(5, 5, 5)),
    nu=2.0,
    tau=1.0,
    alpha=1.0,
)
train_dataloader = loader(
    cifar(100, "train", augment=True),
    64,
    train=True,
    seeded=True,
    workers=4,
    epochs=True,
)
test_dataloader = loader(cifar(100, "test"), 256, workers=2, persistent=False)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=240)
optim_wrapper = optimizer("SGD", 0.05, momentum=0.9, weight_decay=5e-4)
param_scheduler = dict(
    type="MultiStepLR", milestones=[150, 180, 210], gamma=0.1, by_epoch=True
)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
walk = [f"model.{one}.widths=(8,8,8)" for one in ("student", "teacher")]
walk += [f"model.{one}.stem=8" for one in ("student", "teacher")]
walk += ["model.teacher.blocks=(1,1,1)"]
walk_data = {"data/cifar-100-binary": "cifar100"}
