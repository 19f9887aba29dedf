# FerKD on ImageNet: ResNet-50, 1024 regions of 256 images a step, SGD 0.1 x batch / 512
# and a cosine, 300 epochs (szq0214/FKD, commit afd5294, FKD's script and README; there
# the last four epochs take one region of each image, here four as before).
# FerKD's own schedule and thresholds were not released; the teacher here is mmdet's
# ResNet-152 (data/resnet152.pth: mmpretrain's or torchvision's).
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
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
    type="pld_mmdet.FerKD",
    student=imagenet_resnet(50),
    teachers=[from_file(imagenet_resnet(152), "data/resnet152.pth")],
    num_samples=1281167,
    num_classes=1000,
    area=(0.08, 1.0),
)
train_dataloader = loader(imagenet("train"), 256, train=True, workers=8)
test_dataloader = loader(imagenet("val"), 256, workers=8)
steps = 300 * 1281167 // 1024
once = loader(imagenet("train"), 256, workers=8)
train_cfg = staged(stage("distill", steps, work=once))
optim_wrapper = optimizer("SGD", 0.2, momentum=0.9, weight_decay=1e-4)
param_scheduler = cosine(T_max=steps)
walk = [*tiny_resnets("model.student", "model.teachers.0"), "model.num_classes=6"]
walk += [*tiny_images("train_dataloader.dataset"), "model.num_samples=24"]
walk += ["model.student.num_classes=6", "model.teachers.0.num_classes=6"]
walk += tiny_images(
    "test_dataloader.dataset", "train_cfg.stages.0.work_dataloader.dataset"
)
walk_data = {
    "data/imagenet/train": dict(kind="class_folder", classes=6),
    "data/imagenet/val": "class_folder",
    "data/resnet152.pth": dict(kind="state", of="model.teachers.0", prefix=""),
}
