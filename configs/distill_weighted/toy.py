# DistillWeighted on StreetCrops: 8 labels a class and the other crops without; four
# sources of other classes, made from the true labels of those. Every student takes 300
# steps of 16 labelled crops and 48 others.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import from_each, loader, optimizer, stage, staged
from pld_mmdet.recipes.crops import crops, crops_table, tiny_crops
from pld_mmdet.recipes.tables import lengths, on_test, raw_pixels, row

network = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(16, 32, 64))
model = dict(
    type="pld_mmdet.DistillWeighted",
    student=dict(network, num_classes=8),
    teachers=[dict(network, num_classes=n) for n in (3, 2, 2, 4)],
    tasks=[
        [0, 0, 1, 1, 1, 1, 2, 2],  # people, cars and larger, two wheels
        [0, 0, 0, 1, 1, 1, 0, 0],  # trucks, buses and trains against all others
        [0, 1, 0, 1, 0, 1, 0, 1],  # no kinship
        "rotation",
    ],
    view="weak",
)
known, others = (crops(balanced=True, labelled=count) for count in (64, -64))
train_dataloader = dict(
    batch_size=64,
    sampler=from_each(64, 1, 3, _delete_=True),
    dataset=dict(
        _delete_=True, type="pld_mmdet.LabelledAndNot", datasets=[known, others]
    ),
)
train_cfg = staged(
    stage("teacher", 300, data=loader(others, 32, train=True)),
    stage("distill", 300, work=loader(known, 64)),
)
optim_wrapper = optimizer("AdamW", 3e-3, weight_decay=0.05)
find_unused_parameters = True  # one part learns at a time

places = [
    "train_dataloader.dataset.datasets.0",
    "train_dataloader.dataset.datasets.1",
    "train_cfg.stages.0.dataloader.dataset",
    "train_cfg.stages.1.work_dataloader.dataset",
]
drawn = [f"{place}.label_seed={{seed}}" for place in places]
experiment = crops_table(
    "distill_weighted",
    row("plain", "Cross-entropy on 64 labels", *drawn, "model.lam=1", *lengths(1)),
    row("equal", "All sources alike (p = 0)", *drawn, "model.p=0"),
    row("nearest", "DistillNearest", *drawn, "model.p=1e9"),
    row("distill_weighted", "DistillWeighted, p = 12", *drawn),
    raw_pixels(*drawn, of="64 labels"),
    metric="balanced_accuracy",
    columns=on_test("class-balanced", "accuracy"),
)
walk = lengths(1, 1)
walk += ["model.p=0"]  # untrained sources may all be unlike
walk += ["train_dataloader.batch_size=8", "train_dataloader.sampler.batch_size=8"]
walk += tiny_crops(*places)
walk += [f"{place}.balanced=False" for place in places]
walk += [f"{places[i]}.labelled={n}" for i, n in enumerate((24, -24, -24, 24))]
walk += tiny_crops()
