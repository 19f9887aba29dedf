# CV-DD on StreetCrops: three networks of 280 crops a class, the last one too small
# to be good; six images a class. Every student sees 300 batches of stored views.
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
    type="pld_mmdet.CVDD",
    student=crop_network(8, 16, 32),
    teachers=[crop_network(8, 16, 32), crop_network(12, 32), crop_network(4, 8)],
    image_shape=(3, 32, 32),
    num_classes=8,
    priors=(38.1, 37.7, 25.6),  # students of each alone, val, seed 10
    ipc=6,
    epochs=100,
    area=(0.25, 1.0),
    temperature=4.0,
)
# as many of each class: the statistics that batch norm keeps are then those of images
# of all classes alike, which is what a distilled set has
train_dataloader = dict(batch_size=32, dataset=dict(labelled=2240, balanced=True))
one = loader(crops(labelled=8), 1, train=True)  # not looked at
real = loader(crops(), 500)
stored = loader(
    dict(type="pld_mmdet.StoredViews", file="{folder}/distilled"), 1, train=True
)
stored["sampler"]["shuffle"] = False
train_cfg = staged(
    stage("teacher", 400),
    stage(
        "recover",
        6 * 60,
        data=one,
        work=real,
        optim=optimizer("Adam", 0.05, betas=(0.5, 0.9)),
    ),
    stage("student", 300, data=stored, work=real),
)
optim_wrapper = optimizer("AdamW", 1e-2, weight_decay=0.01)
param_scheduler = cosine()
find_unused_parameters = True  # on several processes: one part learns at a time

given = ["fine_tune=True", *lengths(0)]
alone = "model.priors=[900.0,0.0,0.0]"  # e^-90 for the others
equal = "model.priors=[50.0,50.0,50.0]"
own = dict(test=[])  # tested with the row's options too: they are the model's
made = dict(init="networks", evaluate=own)
experiment = crops_table(
    "cv_dd",
    row(
        "networks",
        "The three networks",
        *lengths(None, 0, 0),
        "model.predict_on=teacher",
        "model.epochs=1",
        evaluate=own,
    ),
    row(
        "single",
        "The best network alone (SRe2L++)",
        *given,
        alone,
        "model.committee=1",
        "model.members=best",
        **made,
    ),
    row("equal", "Committee, equal votes", *given, equal, **made),
    row(
        "running",
        "CV-DD, labels by running statistics",
        *given,
        "model.statistics=running",
        **made,
    ),
    row("cv_dd", "CV-DD", *given, **made),
    few_pixels(6),
    metric="balanced_accuracy",
    columns=on_test("accuracy", "class-balanced"),
)
walk = [
    *lengths(1, 1, 1),
    "model.ipc=1",
    "model.epochs=2",
    "model.batch=4",
    "train_dataloader.batch_size=4",
    "train_dataloader.dataset.labelled=16",
    *tiny_crops(),
    *tiny_crops("train_dataloader.dataset", "train_cfg.stages.1.dataloader.dataset"),
    *tiny_crops(*(f"train_cfg.stages.{i}.work_dataloader.dataset" for i in (1, 2))),
]
