# RAD on digits: 20 labels, then three rounds of 20 purchases from a teacher that takes
# most 3s for 8s and most 7s for 1s. Every row takes 4 x 300 steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

known = dict(type="pld_mmdet.Digits", part="train", labelled=2)
pool = dict(type="pld_mmdet.Digits", part="train", labelled=-2)
model = dict(
    type="pld_mmdet.RAD",
    student=dict(type="pld_mmdet.MLP", sizes=(64, 32, 10)),
    teachers=[dict(type="pld_mmdet.ConfusedDigitsTeacher")],
    num_samples=1057,
    num_classes=10,
    batch=20,
    validation=dict(type="pld_mmdet.Digits", part="val"),
)
train_dataloader = dict(batch_size=32, dataset=known)
bought = loader(
    dict(type="pld_mmdet.Bought", known=known, pool=pool, file="{folder}/bought.pth"),
    32,
    train=True,
)
everything = loader(pool, 500)
later = [stage(f"round_{r}", 300, data=bought, work=everything) for r in (2, 3, 4)]
train_cfg = staged(stage("round_1", 300), *later)
optim_wrapper = optimizer("Adam", 3e-3)

drawn = "model.seed={seed}"
experiment = table(
    "rad",
    row("random", "Random purchases", drawn, "model.select=random"),
    row("margin", "The smallest margins", drawn, "model.select=margin"),
    row("rad", "RAD", drawn),
    row("one_wrong", "RAD, c = 1", drawn, "model.budget=1"),
    raw_pixels("train_dataloader.dataset.labelled=8", of="80 true labels"),
    columns={"accuracy": ("test", "accuracy"), "ECE": ("test", "ece")},
    reported="student of the last round",
)
walk = lengths(1, 1, 1, 1)
