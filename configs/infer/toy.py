# INFER on StreetCrops: three networks of 5000 crops; seven images a class may be kept,
# which are 5 real ones and 15 that compensators make of them (6.9 paid). Every student
# takes 400 steps of 32 images.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import (
    ACCURACIES,
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
cosine = dict(type="CosineAnnealingLR", by_epoch=False)
adam = optimizer("AdamW", 1e-2, weight_decay=0.01)
train_cfg = staged(
    stage("teacher", 400),
    stage(
        "distill",
        compensating,
        data=one,
        work=real,
        optim=optimizer("Adam", 0.25, betas=(0.5, 0.9)),
    ),
    stage("student", 400, data=loader(stored, 32, train=True), work=real),
)
optim_wrapper = adam
param_scheduler = cosine
find_unused_parameters = True  # on several processes: one part learns at a time

given = ["fine_tune=True", "train_cfg.stages.0.max_iters=0"]
undistilled = ["train_cfg.stages.1.max_iters=0", "model.synthesis=none"]
own = dict(test=[])  # tested with the row's options too: they are the model's
experiment = table(
    "infer",
    row(
        "networks",
        "The three networks, of all labels",
        "train_cfg.stages.1.max_iters=0",
        "train_cfg.stages.2.max_iters=0",
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
        init="networks",
        evaluate=own,
    ),
    row(
        "real",
        "7 real images a class, soft labels",
        *given,
        *undistilled,
        init="networks",
        evaluate=own,
    ),
    row(
        "each",
        "7 images optimised one by one (SRe2L), soft labels",
        *given,
        "train_cfg.stages.1.max_iters=280",
        "model.synthesis=each",
        init="networks",
        evaluate=own,
    ),
    row("infer", "INFER", *given, init="networks", evaluate=own),
    raw_pixels(
        "train_dataloader.dataset.labelled=56",
        "train_dataloader.dataset.balanced=True",
        "train_dataloader.dataset.label_seed={seed}",
        of="7 images a class",
    ),
    data="python tools/prepare.py street_crops",
    columns=ACCURACIES,
)
tiny = "data/tiny_crops"
walk = [
    *(f"train_cfg.stages.{i}.max_iters=1" for i in (0, 2)),
    "train_cfg.stages.1.max_iters=2",
    "model.ipc=2",
    "train_dataloader.batch_size=4",
    *(f"{part}_dataloader.dataset.data_root={tiny}" for part in ("val", "test")),
    f"train_dataloader.dataset.data_root={tiny}",
    f"train_cfg.stages.1.dataloader.dataset.data_root={tiny}",
    *(f"train_cfg.stages.{i}.work_dataloader.dataset.data_root={tiny}" for i in (1, 2)),
]
