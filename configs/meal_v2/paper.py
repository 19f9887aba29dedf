# MEAL V2 on ImageNet at 224 pixels: ResNet-50, 180 epochs of 512 images, SGD 0.01, a
# tenth after epoch 100 of 0 to 100, no weight decay (szq0214/MEAL-V2, commit 59e6bca).
# Their teachers are SENet-154 and ResNet-152 v1s; here ResNet-152 and ResNeXt-101 of
# mmdet; files of mmpretrain or torchvision fit.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import drops, loader, optimizer
from pld_mmdet.recipes.images import (
    from_file,
    imagenet,
    imagenet_resnet,
    tiny_images,
    tiny_resnets,
)

how_to_get = dict(
    data="put ImageNet's folders into data/imagenet",
    weights="put torchvision's files into data under the names below",
)
model = dict(
    type="pld_mmdet.MEALV2",
    student=from_file(imagenet_resnet(50), "data/resnet50.pth"),
    teachers=[
        from_file(imagenet_resnet(152), "data/resnet152.pth"),
        from_file(
            imagenet_resnet(101, kind="ResNeXt", groups=32, base_width=8),
            "data/resnext101_32x8d.pth",
        ),
    ],
    num_classes=1000,
)
train_dataloader = loader(
    imagenet("train", augment=True, scale=(0.08, 1.0)),
    512,
    train=True,
    seeded=True,
    workers=8,
)
test_dataloader = loader(imagenet("val"), 256)
epoch = 1281167 // 512
train_cfg = dict(type="IterBasedTrainLoop", max_iters=180 * epoch)
# the released scheduler writes the same rate into every group, the discriminator's too
optim_wrapper = optimizer("SGD", 0.01, momentum=0.9, weight_decay=0.0)
param_scheduler = drops(101 * epoch)
walk = [*tiny_resnets("model.student", "model.teachers.0"), *tiny_images()]
walk += [*tiny_resnets("model.teachers.1", depth=50), "model.num_classes=3"]
walk_data = {
    "data/imagenet/train": "class_folder",
    "data/imagenet/val": "class_folder",
    "data/resnet50.pth": dict(kind="state", of="model.student", prefix=""),
    "data/resnet152.pth": dict(kind="state", of="model.teachers.0", prefix="", seed=2),
    "data/resnext101_32x8d.pth": dict(
        kind="state", of="model.teachers.1", prefix="", seed=3
    ),
}
