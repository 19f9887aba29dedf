# RAD on digits: 20 labels, then three rounds of 20 purchases from a teacher that takes
# most 3s for 8s and most 7s for 1s. Every row takes 4 x 300 steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, row, stage, staged, table

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
later = dict(max_iters=300, dataloader=bought, work_dataloader=everything)
train_cfg = staged(
    stage("round_1", 300),
    dict(name="round_2", **later),
    dict(name="round_3", **later),
    dict(name="round_4", **later),
)
optim_wrapper = optimizer("Adam", 3e-3)

drawn = "model.seed={seed}"
experiment = table(
    "rad",
    row("random", "Random purchases", drawn, "model.select=random"),
    row("margin", "The smallest margins", drawn, "model.select=margin"),
    row("rad", "RAD", drawn),
    row("one_wrong", "RAD, c = 1", drawn, "model.budget=1"),
    row(
        "raw_pixels",
        "Raw pixels of 80 true labels, logistic regression",
        "train_dataloader.dataset.labelled=8",
        baseline=dict(type="raw_input", c=0.1),
    ),
    columns={"accuracy": ("test", "accuracy"), "ECE": ("test", "ece")},
    reported="student of the last round",
)
walk = [f"train_cfg.stages.{i}.max_iters=1" for i in range(4)]
