# DHO on ImageNet with 1 % of the labels: CLIP ViT-B/16 learns from DFN's ViT-H/14, the
# released settings (AdamW 5e-5, 32 passes over the images without label, 256 + 256
# images a step). The 1 % are drawn here, as many of each class, with another generator.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]
from pld_mmdet.recipes import cosine, from_each, images, loader, optimizer, warm_up

how_to_get = dict(data=images.NAMED_IMAGENET)
templates = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
words = dict(names="data/imagenet/classnames.txt", templates=templates)
model = dict(
    type="pld_mmdet.DHO",
    student=dict(
        type="pld_mmdet.CLIPImageEncoder",
        source="openai/clip-vit-base-patch16",
        text_length="raw",
        **words,
    ),
    teacher=dict(
        type="pld_mmdet.CLIPZeroShot",
        source="apple/DFN5B-CLIP-ViT-H-14-378",
        text_length="mean",
        **words,
    ),
    num_classes=1000,
    w1=1.0,
    w2=1.0,
    tau=2.0,
    alpha=0.5,
    beta=0.5,
    kd_scale=100.0,
)
# Crops have the teacher's size; the student makes them smaller for itself.
few = images.imagenet("train", size=378, share=0.01, augment=True)
train_dataloader = loader(
    dict(type="pld_mmdet.LabelledAndNot", datasets=[few, dict(few, rest=True)]),
    512,
    sampler=from_each(512, 1, 1),
    seeded=True,
    workers=16,
)
test_dataloader = loader(
    images.imagenet("val", size=378), 256, workers=8, persistent=False
)
# 32 passes over 1 268 356 images, 256 a step
max_iters = 158560
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
optim_wrapper = optimizer("AdamW", 5e-5, weight_decay=0.05)
param_scheduler = [
    warm_up(0.01, 5000),
    # From the first step and 5000 steps too short, as theirs: it rises at the end.
    cosine(T_max=max_iters - 5000),
]
default_hooks = dict(checkpoint=dict(interval=5000))
both = ("model.student", "model.teacher")
walk = ["model.num_classes=3"]
few = "train_dataloader.dataset.dataset.datasets"
walk += images.tiny_images(f"{few}.0", f"{few}.1", "test_dataloader.dataset", size=24)
walk_data = {
    "data/imagenet/train": "class_folder",
    "data/imagenet/val": "class_folder",
    "data/imagenet/classnames.txt": dict(kind="lines", text=["kite", "gull", "toad"]),
    "openai/clip-vit-base-patch16": dict(kind="clip", size=16),
    "apple/DFN5B-CLIP-ViT-H-14-378": dict(kind="clip", size=24, seed=2),
}
