# HeLlO on StreetCrops: the foundation knows the crops in thick fog, the weak teachers
# are checkpoints of one training on the clear ones; six images a class.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.crops import (
    crop_network,
    crops,
    crops_table,
    few_pixels,
    tiny_crops,
)
from pld_mmdet.recipes.tables import lengths, on_test, row

model = dict(
    type="pld_mmdet.HeLlO",
    student=crop_network(8, 16, 32),
    teacher=crop_network(8, 16, 32),
    projector=dict(
        type="pld_mmdet.LabelProjector",
        encoder=crop_network(12, 24, 48),
        rank=2,
        text_rank=4,
        scale=10.0,
    ),
    image_shape=(3, 32, 32),
    num_classes=8,
    ipc=6,
    weak=3,
)
train_dataloader = dict(batch_size=32)
one = loader(crops(labelled=8), 1, train=True)  # not looked at
some = loader(crops(labelled=1000), 250)
stored = dict(type="pld_mmdet.DistilledPairs", file="{folder}/distilled")
train_cfg = staged(
    stage("foundation", 300, data=loader(crops(fog=0.02), 32, train=True)),
    stage("teacher", 300),
    stage(
        "projector", 200, work=some, optim=optimizer("AdamW", 5e-3, weight_decay=0.01)
    ),
    stage("images", 50, data=one, work=some, optim=optimizer("Adam", 0.01)),
    stage("student", 300, data=loader(stored, 32, train=True), work=some),
)
optim_wrapper = optimizer("AdamW", 1e-2, weight_decay=0.01)
param_scheduler = cosine()
find_unused_parameters = True  # on several processes: one part learns at a time
val_evaluator = test_evaluator = [
    dict(type="pld_mmdet.ClassificationMetric"),
    dict(type="pld_mmdet.StoredNumbers"),
]

given = lengths(0, 0, 0, 0)
own = dict(test=[])  # tested with the row's options too: they are the model's
made = dict(init="generator", evaluate=own)
experiment = crops_table(
    "hello",
    row(
        "generator",
        "The label generator itself",
        *lengths(None, None, None, None, 0),
        "model.predict_on=projector",
        evaluate=own,
    ),
    row("plain", "Hard labels", *given, "model.labels=hard", **made),
    row(
        "stored",
        "One stored soft label an image",
        *given,
        "model.labels=stored",
        **made,
    ),
    row("hello", "HeLlO", *given, **made),
    few_pixels(6, evaluator=dict(type="pld_mmdet.ClassificationMetric")),
    columns=on_test("accuracy", "class-balanced"),
)
walk = [
    *lengths(1, 1, 1, 1, 1),
    "model.ipc=1",
    "train_dataloader.batch_size=4",
    *tiny_crops(),
    *tiny_crops("train_dataloader.dataset"),
    *tiny_crops(*(f"train_cfg.stages.{i}.dataloader.dataset" for i in (0, 3))),
    "train_cfg.stages.0.dataloader.batch_size=4",
]
for _place in (f"train_cfg.stages.{i}.work_dataloader.dataset" for i in (2, 3, 4)):
    walk += [*tiny_crops(_place), f"{_place}.labelled=100"]
