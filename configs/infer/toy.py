# INFER on StreetCrops: three networks of 5000 crops; seven images a class may be kept,
# which are 5 real ones and 15 that compensators make of them (6.9 paid). Every student
# takes 400 steps of 32 images.
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
    type="pld_mmdet.INFER",
    student=crop_network(8, 16, 32),
    teachers=[crop_network(8, 16, 32), crop_network(8, 24), crop_network(12, 24, 48)],
    image_shape=(3, 32, 32),
    num_classes=8,
    ipc=7,
    temperature=4.0,
)
train_dataloader = dict(batch_size=32)
compensating = 15 * 40
one = loader(crops(labelled=8), 1, train=True)  # not looked at
real = loader(crops(), 500)
stored = dict(type="pld_mmdet.DistilledPairs", file="{folder}/distilled")
images = optimizer("Adam", 0.25, betas=(0.5, 0.9))
train_cfg = staged(
    stage("teacher", 400),
    stage("distill", compensating, data=one, work=real, optim=images),
    stage("student", 400, data=loader(stored, 32, train=True), work=real),
)
optim_wrapper = optimizer("AdamW", 1e-2, weight_decay=0.01)
param_scheduler = cosine()
find_unused_parameters = True  # on several processes: one part learns at a time

given = ["fine_tune=True", *lengths(0)]
undistilled = [*lengths(None, 0), "model.synthesis=none"]
own = dict(test=[])  # tested with the row's options too: they are the model's
made = dict(init="networks", evaluate=own)
experiment = crops_table(
    "infer",
    row(
        "networks",
        "The three networks, of all labels",
        *lengths(None, 0, 0),
        "model.predict_on=teacher",
        *undistilled,
        evaluate=own,
    ),
    row(
        "plain",
        "7 real images a class, hard labels",
        *given,
        *undistilled,
        "model.labels=hard",
        **made,
    ),
    row("real", "7 real images a class, soft labels", *given, *undistilled, **made),
    row(
        "each",
        "7 images optimised one by one (SRe2L), soft labels",
        *given,
        *lengths(None, 280),
        "model.synthesis=each",
        **made,
    ),
    row("infer", "INFER", *given, **made),
    few_pixels(7),
    columns=on_test("accuracy", "class-balanced"),
)
walk = [
    *lengths(1, None, 1),
    *lengths(None, 2),
    "model.ipc=2",
    "train_dataloader.batch_size=4",
    *tiny_crops(),
    *tiny_crops("train_dataloader.dataset", "train_cfg.stages.1.dataloader.dataset"),
    *tiny_crops(*(f"train_cfg.stages.{i}.work_dataloader.dataset" for i in (1, 2))),
]
