# KD-Prune on digits of which every fifth has a wrong label: a teacher of all 1077, a
# student of a tenth of them. Every student takes 500 steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, on_test, raw_pixels, row, table

network = dict(type="pld_mmdet.SmallConvNet", widths=(16, 32))
model = dict(
    type="pld_mmdet.KDPrune",
    student=network,
    teachers=[network],
    alpha=0.9,
    view="digits",
)
whole = dict(type="pld_mmdet.Digits", part="train", noise=0.2)
train_dataloader = dict(
    _delete_=True,
    **loader(dict(type="pld_mmdet.Pruned", dataset=whole, share=0.1), 64, train=True),
)
train_cfg = staged(
    stage("teacher", 500, data=loader(whole, 64, train=True)), stage("distill", 500)
)
optim_wrapper = optimizer("Adam", 3e-3)
find_unused_parameters = True  # on several processes: one part learns at a time

drawn = [
    "train_dataloader.dataset.seed={seed}",
    "train_dataloader.dataset.dataset.noise_seed={seed}",
    "train_cfg.stages.0.dataloader.dataset.noise_seed={seed}",
]
alone = [*drawn, "model.alpha=0.0", *lengths(1)]
experiment = table(
    "kd_prune",
    row("plain", "Cross-entropy on a tenth", *alone),
    row("smoothing", "Label smoothing 0.2", *alone, "model.label_smoothing=0.2"),
    row(
        "kd_prune",
        "KD-Prune, alpha 0.9",
        *drawn,
        evaluate=dict(teacher="configs/kd_prune/teacher.py", test=None),
    ),
    row(
        "all_images",
        "The same loss on all images",
        *drawn,
        "train_dataloader.dataset.share=1.0",
    ),
    raw_pixels(*drawn),
    columns=on_test("accuracy", "ECE") | {"teacher": ("teacher", "accuracy")},
)
walk = [*lengths(1, 1), "train_dataloader.batch_size=8"]
