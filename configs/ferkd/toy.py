# FerKD on StreetCrops: a teacher of 5000 labelled crops, once a seed; a student of 300
# images with 16 stored regions each, 150 steps of 32 images, 4 regions each.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import (
    crop_network,
    crops,
    loader,
    optimizer,
    raw_pixels,
    row,
    stage,
    staged,
    table,
)

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
student = [*drawn, "train_cfg.stages.0.max_iters=0"]
hard = [*student, "model.low=0.0", "model.middle=1.0"]
made = [*drawn, "train_cfg.stages.1.max_iters=0", "model.predict_on=teacher"]
experiment = table(
    "ferkd",
    # every region but the surest is hard: the smoothed ground truth
    row("plain", "Hard labels", *hard, init="teacher"),
    row("fkd", "FKD", *student, "model.low=0.0", "model.middle=0.0", init="teacher"),
    row("ferkd", "FerKD", *student, init="teacher"),
    row("teacher", "The teacher itself", *made, trivial=True),
    raw_pixels(*drawn),
    data="python tools/prepare.py street_crops",
    columns={
        "accuracy": ("test", "accuracy"),
        "class-balanced": ("test", "balanced_accuracy"),
        "ECE": ("test", "ece"),
    },
)
tiny = "data/tiny_crops"
walk = [
    *(f"train_cfg.stages.{i}.max_iters=1" for i in (0, 1)),
    *(f"{part}_dataloader.dataset.data_root={tiny}" for part in ("val", "test")),
    f"train_dataloader.dataset.data_root={tiny}",
    "train_dataloader.dataset.labelled=16",
    "train_dataloader.batch_size=4",
    f"train_cfg.stages.0.dataloader.dataset.data_root={tiny}",
    "train_cfg.stages.0.dataloader.dataset.labelled=16",
    f"train_cfg.stages.1.work_dataloader.dataset.data_root={tiny}",
    "train_cfg.stages.1.work_dataloader.dataset.labelled=16",
]
