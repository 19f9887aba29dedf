# FerKD on StreetCrops: a teacher of 5000 labelled crops, once a seed; a student of 300
# images with 16 stored regions each, 150 steps of 32 images, 4 regions each.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.crops import crop_network, crops, crops_table, tiny_crops
from pld_mmdet.recipes.tables import lengths, on_test, raw_pixels, row

model = dict(
    type="pld_mmdet.FerKD",
    student=crop_network(16, 32),
    teachers=[crop_network(16, 32, 64)],
    num_samples=300,
    num_classes=8,
    area=(0.5, 1.0),
)
train_dataloader = dict(batch_size=32, dataset=dict(labelled=300))
many = loader(crops(labelled=5000), 64, train=True)
once = loader(crops(labelled=300), 100)
train_cfg = staged(stage("teacher", 300, data=many), stage("distill", 150, work=once))
optim_wrapper = optimizer("AdamW", 3e-3, weight_decay=0.05)
find_unused_parameters = True  # on several processes: one part learns at a time

drawn = [
    "train_dataloader.dataset.label_seed={seed}",
    "train_cfg.stages.1.work_dataloader.dataset.label_seed={seed}",
]
student = [*drawn, *lengths(0)]
hard = [*student, "model.low=0.0", "model.middle=1.0"]
made = [*drawn, *lengths(None, 0), "model.predict_on=teacher"]
experiment = crops_table(
    "ferkd",
    # every region but the surest is hard: the smoothed ground truth
    row("plain", "Hard labels", *hard, init="teacher"),
    row("fkd", "FKD", *student, "model.low=0.0", "model.middle=0.0", init="teacher"),
    row("ferkd", "FerKD", *student, init="teacher"),
    row("teacher", "The teacher itself", *made, trivial=True),
    raw_pixels(*drawn),
    columns=on_test("accuracy", "class-balanced", "ECE"),
)
walk = [
    *lengths(1, 1),
    *tiny_crops(),
    *tiny_crops("train_dataloader.dataset"),
    "train_dataloader.dataset.labelled=16",
    "train_dataloader.batch_size=4",
    *tiny_crops("train_cfg.stages.0.dataloader.dataset"),
    "train_cfg.stages.0.dataloader.dataset.labelled=16",
    *tiny_crops("train_cfg.stages.1.work_dataloader.dataset"),
    "train_cfg.stages.1.work_dataloader.dataset.labelled=16",
]
