# SLA+SD on 400 labels of StreetCrops, four quarter turns. Every row sees 128 images a
# step and takes 400 steps: 32 of four turns, or 128 as they are.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

from pld_mmdet.recipes import cosine, iterations, optimizer
from pld_mmdet.recipes.crops import crop_network, crops_table, tiny_crops
from pld_mmdet.recipes.tables import on_test, raw_pixels, row

network = crop_network(16, 32, 64)
model = dict(type="pld_mmdet.SLASD", network=network, num_classes=8)
train_dataloader = dict(batch_size=32, dataset=dict(labelled=400))
train_cfg = iterations(400)
optim_wrapper = optimizer("AdamW", 6e-3, weight_decay=0.05)
param_scheduler = cosine(T_max=400)

drawn = "train_dataloader.dataset.label_seed={seed}"
experiment = crops_table(
    "sla_sd",
    row("plain", "Cross-entropy only", drawn),
    row("augmented", "Quarter turns as augmentation", drawn, "model.labels=same"),
    row(
        "sla_sd",
        "SLA+SD",
        drawn,
        evaluate=dict(aggregated="configs/sla_sd/aggregated.py", test=None),
    ),
    raw_pixels(drawn),
    columns=on_test("accuracy", "class-balanced", "ECE")
    | {"all four turns": ("aggregated", "accuracy")},
    reported="network of the last iteration",
)
walk = [
    "train_cfg.max_iters=2",
    "train_dataloader.batch_size=8",
    "train_dataloader.dataset.labelled=16",
    *tiny_crops("train_dataloader.dataset"),
    *tiny_crops(),
]
