# Kernel ridge regression on 300 digits of which 30 % have a wrong label: an iteration
# is a step of self-distillation in closed form.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import iterations, optimizer
from pld_mmdet.recipes.tables import raw_pixels, row, table

known = dict(type="pld_mmdet.Digits", part="train", labelled=30, noise=0.3)
model = dict(
    type="pld_mmdet.KernelSelfDistillation",
    support=known,
    num_classes=10,
    gamma=0.1,
    lam=0.1,
    alpha=0.1,
)
train_dataloader = dict(dataset=known)
train_cfg = iterations(8)
optim_wrapper = optimizer("SGD", 0.0)
wrong = [
    "model.support.noise_seed={seed}",
    "train_dataloader.dataset.noise_seed={seed}",
]
experiment = table(
    "self_distillation_theory",
    row("plain", "One fit (ridge 0.1)", *wrong, "train_cfg.max_iters=1"),
    row(
        "tuned_ridge",
        "One fit, ridge tuned on val",
        *wrong,
        "train_cfg.max_iters=1",
        "model.lam=1.0",
    ),
    row(
        "no_truth",
        "Self-distillation, alpha 0, best step",
        *wrong,
        "train_cfg.max_iters=4",
        "model.alpha=0.0",
    ),
    row("self_distillation_theory", "Self-distillation, alpha 0.1", *wrong),
    raw_pixels(wrong[1]),
    columns={"accuracy": ("test", "accuracy")},
    reported="kernel ridge of the last step",
)
walk = ["train_cfg.max_iters=2", "model.support.labelled=3"]
