# ShrinkMatch on StreetCrops: 8 labels a class, the other crops without. Every row takes
# 300 steps of 16 labelled crops; the others see 48 more in two views.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import from_each, iterations, optimizer
from pld_mmdet.recipes.crops import crop_network, crops, crops_table, tiny_crops
from pld_mmdet.recipes.tables import on_test, raw_pixels, row

model = dict(
    type="pld_mmdet.ShrinkMatch",
    student=crop_network(16, 32, 64),
    num_classes=8,
    threshold=0.8,
)
train_dataloader = dict(
    batch_size=64,
    sampler=from_each(64, 1, 3, _delete_=True),
    dataset=dict(
        _delete_=True,
        type="pld_mmdet.LabelledAndNot",
        datasets=[crops(balanced=True, labelled=count) for count in (64, -64)],
    ),
)
train_cfg = iterations(300)
optim_wrapper = optimizer("AdamW", 3e-3, weight_decay=0.05)
_ema = dict(type="pld_mmdet.TeacherEMAHook")
custom_hooks = [
    *_base_.custom_hooks,
    dict(_ema, keep=0.98, moment="before", buffers="copy", warm_up=0),
]

drawn = [f"train_dataloader.dataset.datasets.{i}.label_seed={{seed}}" for i in (0, 1)]
experiment = crops_table(
    "shrinkmatch",
    row("plain", "Cross-entropy on 64 labels", *drawn, "model.use=nothing"),
    row("fixmatch", "FixMatch, aligned soft labels", *drawn, "model.use=certain"),
    row("unweighted", "Shrinking without weights", *drawn, "model.use=unweighted"),
    row("shrinkmatch", "ShrinkMatch", *drawn),
    raw_pixels(*drawn, of="64 labels"),
    metric="balanced_accuracy",
    columns=on_test("class-balanced", "accuracy", "ECE"),
    reported="EMA of the last iteration",
)
walk = ["train_cfg.max_iters=2", "train_dataloader.batch_size=8"]
walk += ["train_dataloader.sampler.batch_size=8"]
for i, count in enumerate((16, -16)):
    place = f"train_dataloader.dataset.datasets.{i}"
    walk += [f"{place}.labelled={count}", f"{place}.balanced=False"]
    walk += tiny_crops(place)
walk += tiny_crops()
