# FIRST on digits as answers of one token: an over-confident teacher (250 labels, a
# quarter wrong), its confidence mended on val, a small student on 1077 images.
_base_ = "plain.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, on_test, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.FIRST",
    student={{_base_.student}},
    teacher=dict(type="pld_mmdet.MLP", sizes=(64, 256, 10)),
)
images = loader(dict(type="pld_mmdet.Digits", part="train"), 64, train=True)
val = {{_base_.val_dataloader}}
train_cfg = staged(
    stage("teacher", 1000, optim=optimizer("Adam", lr=5e-3)),
    stage("calibrate", 0, work=val),
    stage("student", 1000, data=images),
    _delete_=True,
)
find_unused_parameters = True  # on several processes: one of the two learns

wrong = "train_dataloader.dataset.noise_seed={seed}"
experiment = table(
    "first",
    row("plain", "Labels, no teacher", wrong),
    row("top_5", "Top-5 KL, as the teacher says", wrong, "model.trust=none"),
    row("first", "FIRST, temperature", wrong),
    row("smoothing", "FIRST, smoothing", wrong, "model.trust=smoothing"),
    row(
        "teacher",
        "The teacher itself",
        wrong,
        *lengths(None, None, 1),
        evaluate=dict(test=["model.predict_on=teacher"]),
    ),
    columns=on_test("accuracy", "ECE", "100 x NLL"),
)
walk = [
    *lengths(1, None, 2),
    "train_cfg.stages.2.dataloader.batch_size=8",
]
