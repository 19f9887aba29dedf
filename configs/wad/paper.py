# WAD on CIFAR-10: targets are classes 0 and 1 with 400 labels each, 60 % of the other
# images are of no target class; R = 5: six rounds of 1500 steps of 32 + 32 images with
# WRN-28-2, and a ResNet-18 by SimCLR for 700 epochs of batches of 128 (RUC-DWBI-ML,
# WAD-master). The teacher's rate rises from 0.1 to 1.0 in ten epochs (multiplier 10),
# then falls along a cosine of 700. Theirs whitens the images (ZCA) for the student.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import (
    cosine,
    from_each,
    loader,
    optimizer,
    stage,
    staged,
    warm_up,
)
from pld_mmdet.recipes.images import cifar, cifar_files, wide_resnet

how_to_get = dict(data=cifar_files(10))
raw = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
targets = dict(type="pld_mmdet.Mismatched", classes=[0, 1])
mixed = dict(
    targets,
    dataset=cifar(10, "train", **raw),
    labelled=400,
    pool=9200,
    mismatch=0.6,
)
model = dict(
    type="pld_mmdet.WAD",
    student=wide_resnet(2),
    teacher=dict(type="pld_mmdet.CIFARResNet", num_classes=2, pre_activation=False),
    num_classes=2,
    num_samples=23800,
)
graded = loader(
    dict(type="pld_mmdet.Graded", dataset=mixed, file="{folder}/knowledge.pth"),
    64,
    sampler=from_each(64, 1, 1),
    workers=4,
)
everything = loader(mixed, 256)
train_dataloader = loader(mixed, 128, train=True, workers=4)
epoch = 23800 // 128  # the last, smaller batch is dropped
train_cfg = staged(
    stage(
        "teacher",
        700 * epoch,
        optim=optimizer("SGD", 1.0, momentum=0.9, weight_decay=1e-6),
        schedule=[
            warm_up(0.1, 10 * epoch),
            cosine(T_max=700 * epoch, begin=10 * epoch),
        ],
    ),
    *(stage(f"round_{r}", 1500, data=graded, work=everything) for r in range(1, 7)),
)
optim_wrapper = optimizer("Adam", 5e-4)
test_dataloader = loader(dict(targets, dataset=cifar(10, "test", **raw)), 256)
find_unused_parameters = True  # one part learns at a time
walk = ["model.student.blocks=(1,1,1)", "model.student.widths=(8,16,16)"]
walk += ["model.teacher.widths=(8,8,8,8)", "model.num_samples=14"]
for place in (
    "train_dataloader",
    *(f"train_cfg.stages.{r}.dataloader.dataset" for r in range(1, 7)),
    *(f"train_cfg.stages.{r}.work_dataloader" for r in range(1, 7)),
):
    walk += [f"{place}.dataset.labelled=2", f"{place}.dataset.pool=4"]
walk_data = {"data/cifar-10-batches-bin": "cifar10"}
