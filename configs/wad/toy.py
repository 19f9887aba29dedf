# WAD on StreetCrops: 8 labels of each of four classes; 1200 crops without labels, half
# of them of other classes or without a thing. A SimCLR teacher once a seed; then every
# student takes 3 x 50 steps of 32 labelled and 32 other crops.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import from_each, loader, optimizer, stage, staged
from pld_mmdet.recipes.crops import crops_table, tiny_crops
from pld_mmdet.recipes.tables import lengths, on_test, raw_pixels, row

targets = [0, 2, 3, 7]  # person, car, truck, bicycle
crops = dict(
    type="pld_mmdet.StreetCrops", data_root="data/street_crops", background=True
)
mixed = dict(
    type="pld_mmdet.Mismatched",
    dataset=dict(crops, part="train"),
    classes=targets,
    labelled=8,
    pool=600,
    mismatch=0.5,
)
network = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(16, 32, 64))
model = dict(
    type="pld_mmdet.WAD",
    student=dict(network, num_classes=4),
    teacher=network,
    num_classes=4,
    num_samples=1232,
    width=64,
    rounds=2,
    noise=0.02,
    area=(0.3, 1.0),
)
everything = loader(mixed, 400)
graded = loader(
    dict(type="pld_mmdet.Graded", dataset=mixed, file="{folder}/knowledge.pth"),
    64,
    sampler=from_each(64, 1, 1),
)
rounds = [stage(f"round_{r}", 50, data=graded, work=everything) for r in (1, 2, 3)]
train_dataloader = dict(_delete_=True, **loader(mixed, 64, train=True))
train_cfg = staged(stage("teacher", 150), *rounds)
optim_wrapper = optimizer("Adam", 1e-3)
find_unused_parameters = True  # one part learns at a time
known = dict(_delete_=True, type="pld_mmdet.Mismatched", classes=targets)
val_dataloader = dict(dataset=dict(known, dataset=dict(crops, part="val")))
test_dataloader = dict(dataset=dict(known, dataset=dict(crops, part="test")))

places = ["train_dataloader.dataset"]
for i in (1, 2, 3):
    of = f"train_cfg.stages.{i}"
    places += [f"{of}.work_dataloader.dataset", f"{of}.dataloader.dataset.dataset"]
drawn = [f"{place}.seed={{seed}}" for place in places]
student = [*drawn, *lengths(0)]
taught = dict(init="teacher")
unweighted, flat = "model.use=unweighted", "model.use=flat"
experiment = crops_table(
    "wad",
    row("plain", "Cross-entropy on 32 labels", *student, "model.use=nothing", **taught),
    row("unweighted", "Teacher's labels, weight 1", *student, unweighted, **taught),
    row("flat", "Teacher's labels, the mean weight", *student, flat, **taught),
    row("wad", "WAD", *student, **taught),
    row(
        "teacher",
        "The teacher, nearest labelled image",
        *drawn,
        *lengths(None, 1, 0, 0),  # the one step saves the features
        "model.use=nothing",
        "model.predict_on=teacher",
        trivial=True,
    ),
    raw_pixels(*drawn, on="32 labels"),
    metric="balanced_accuracy",
    columns=on_test("class-balanced", "accuracy", "ECE"),
    reported="student of the last round",
)
walk = lengths(1, 1, 1, 0)
walk += ["model.num_samples=32", "train_dataloader.batch_size=8"]
for place in places:
    walk += [*tiny_crops(f"{place}.dataset"), f"{place}.labelled=2"]
    walk += [f"{place}.pool=14", f"{place}.classes=[0,2]"]
for i in (1, 2, 3):
    loop = f"train_cfg.stages.{i}.dataloader"
    walk += [f"{loop}.batch_size=8", f"{loop}.sampler.batch_size=8"]
for part in ("val", "test"):
    walk += tiny_crops(f"{part}_dataloader.dataset.dataset")
    walk += [f"{part}_dataloader.dataset.classes=[0,2]"]
walk += ["model.num_classes=2", "model.student.num_classes=2"]
