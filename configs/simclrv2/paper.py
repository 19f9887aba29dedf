# SimCLRv2 on ImageNet with 10 % of the labels, ResNet-50 as both networks (the paper's
# self-distillation row; google-research/simclr, 383d414): 800 epochs of 4096 images,
# 30 epochs of 1024 of the 128 116 labelled ones, 400 epochs of 4096. LARS, the rate 0.1
# (tuning: 0.005) times the root of the batch.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged, warm_up
from pld_mmdet.recipes.images import (
    imagenet,
    imagenet_resnet,
    tiny_images,
    tiny_resnets,
)

how_to_get = dict(data="put ImageNet's folders into data/imagenet")
resnet = imagenet_resnet(50)
model = dict(
    type="pld_mmdet.SimCLRv2", student=resnet, teacher=resnet, num_classes=1000
)


def lars(rate, decay=1e-4):
    return optimizer("pld_mmdet.LARS", rate, momentum=0.9, weight_decay=decay)


def learning(steps, warm):
    schedule = [warm_up(1e-3, warm), cosine(T_max=steps - warm, begin=warm)]
    return dict(steps=steps, optim=lars(6.4), schedule=schedule)


few = loader(imagenet("train", share=0.1), 1024, train=True, workers=8)
train_dataloader = loader(imagenet("train"), 4096, train=True, workers=8)
test_dataloader = loader(imagenet("val"), 256, workers=8)
epoch = 1281167 / 4096
tuning = 30 * 128116 // 1024
train_cfg = staged(
    stage("pretrain", **learning(int(800 * epoch), int(40 * epoch))),
    stage(
        "finetune",
        tuning,
        data=few,
        optim=lars(0.16, 0.0),
        schedule=[cosine(T_max=tuning, begin=0)],
    ),
    stage("distill", **learning(int(400 * epoch), int(20 * epoch))),
)
optim_wrapper = lars(6.4)
find_unused_parameters = True
walk = [*tiny_resnets("model.student", "model.teacher"), "model.num_classes=3"]
walk += tiny_images("train_dataloader.dataset", "test_dataloader.dataset")
walk += tiny_images("train_cfg.stages.1.dataloader.dataset")
walk_data = {
    "data/imagenet/train": dict(kind="class_folder", images=40),
    "data/imagenet/val": "class_folder",
}
