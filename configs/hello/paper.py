# HeLlO on ImageNet, ten images a class, ResNet-18. No code was released: the ranks are
# a public note's (8 and 128), students learn as RDED's (LINs-lab/RDED, 31f9117; AdamW,
# 300 epochs, half of a cosine), the foundation is CLIP ViT-B/16 from transformers
# (theirs has convolutions: a CLIP ResNet), and lengths of the other stages are ours.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cosine, images, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import imagenet, imagenet_resnet

how_to_get = dict(data=images.NAMED_IMAGENET)
resnet = imagenet_resnet(18, 512)
model = dict(
    type="pld_mmdet.HeLlO",
    student=resnet,
    teacher=resnet,
    projector=dict(
        type="pld_mmdet.LabelProjector",
        encoder=dict(
            type="pld_mmdet.CLIPImageEncoder",
            source="openai/clip-vit-base-patch16",
            names="data/imagenet/classnames.txt",
        ),
        rank=8,
        text_rank=128,
    ),
    image_shape=(3, 224, 224),
    num_classes=1000,
    ipc=10,
    weak=9,
    tiles=2,
    area=(0.08, 1.0),
)
batch = 100
length = 300 * 100  # epochs of 10 000 images
train_dataloader = loader(
    imagenet("train", augment=True, scale=(0.08, 1.0)),
    256,
    train=True,
    seeded=True,
    workers=8,
)
real = loader(imagenet("train"), 256, workers=8)
one = loader(imagenet("val"), 1, train=True)  # not looked at
test_dataloader = loader(imagenet("val"), 256, workers=8)
test_evaluator = [
    dict(type="pld_mmdet.ClassificationMetric"),
    dict(type="pld_mmdet.StoredNumbers"),
]
test_cfg = dict()
whole = cosine()
stored = dict(type="pld_mmdet.DistilledPairs", file="{folder}/distilled")
train_cfg = staged(
    stage(
        "teacher",
        90 * 5005,
        optim=optimizer("SGD", 0.1, momentum=0.9, weight_decay=1e-4),
        schedule=whole,
    ),
    stage("projector", 10 * 5005, optim=optimizer("AdamW", 1e-3), schedule=whole),
    stage(
        "images",
        10 * 157,  # ten of each part of 64 images
        data=one,
        work=real,
        optim=optimizer("Adam", 0.01),
        schedule=whole,
    ),
    stage(
        "student",
        length,
        data=loader(stored, batch, train=True, workers=8),
        work=real,
    ),
)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.01)
param_scheduler = cosine(T_max=2 * length)
find_unused_parameters = True
