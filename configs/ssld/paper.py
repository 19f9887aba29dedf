# SSLD on ImageNet: ResNet-50 from ResNet-152, 360 epochs of 1024 images on about 5 M
# images, then 60 on ImageNet-1k at a hundredth of the rate (PaddleClas, d178931). Their
# ResNet-50-D, its teacher ResNeXt101-32x16d-wsl and their choice of 4 M images of
# ImageNet-22k are not to be had here: `data/imagenet_pool` holds folders of any images.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged, warm_up
from pld_mmdet.recipes.images import (
    from_file,
    imagenet,
    imagenet_resnet,
    tiny_images,
    tiny_resnets,
)

how_to_get = dict(
    data="put ImageNet's folders into data/imagenet, the pool beside it",
    weights="put torchvision's ResNet-152 into data/resnet152.pth",
)
model = dict(
    type="pld_mmdet.SSLD",
    student=imagenet_resnet(50),
    teachers=[from_file(imagenet_resnet(152), "data/resnet152.pth")],
)


def warmed(steps, warm):  # a cosine after five epochs of rising rate
    return [warm_up(1e-3, warm), cosine(T_max=steps - warm, begin=warm)]


labelled = imagenet("train", augment=True, scale=(0.08, 1.0))
drawn = dict(train=True, seeded=True, workers=8)
train_dataloader = loader(dict(labelled, data_root="data/imagenet_pool"), 1024, **drawn)
test_dataloader = loader(imagenet("val"), 256)
first, second = 360 * 5000000 // 1024, 60 * 1281167 // 1024
train_cfg = staged(
    stage("distill", first, schedule=warmed(first, 5 * 5000000 // 1024)),
    stage(
        "finetune",
        second,
        data=loader(labelled, 1024, **drawn),
        optim=optimizer("SGD", 0.004, momentum=0.9, weight_decay=7e-5),
        schedule=warmed(second, 5 * 1281167 // 1024),
    ),
)
optim_wrapper = optimizer("SGD", 0.4, momentum=0.9, weight_decay=7e-5)
find_unused_parameters = True
walk = [*tiny_resnets("model.student", "model.teachers.0"), *tiny_images()]
walk += tiny_images("train_cfg.stages.1.dataloader.dataset.dataset")
walk_data = {
    "data/imagenet/train": "class_folder",
    "data/imagenet/val": "class_folder",
    "data/imagenet_pool": "class_folder",
    "data/resnet152.pth": dict(kind="state", of="model.teachers.0", prefix=""),
}
