# Self-distilled further pre-training on scikit-learn's digits: an MAE of 0 to 4 is
# further pre-trained on 150 images of 5 to 9, then fine-tuned on 50 labels of these; a
# copy of it on each of four draws, the same in all runs, since one draw moves the score
# by points.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/digits.py",
    "../_base_/models/digits_mae.py",
]

from pld_mmdet.recipes import cosine, loader, stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

target = dict(
    type="pld_mmdet.Digits", part="train", classes=[5, 6, 7, 8, 9], labelled=30
)
draws = 4
model = dict(
    type="pld_mmdet.SelfDistillPretrain",
    student=dict(_base_.vit, dim=48, depth=4),
    decoder=dict(_base_.decoder, dim=32, depth=1),
    num_classes=5,
    subsets=draws,
    mean=_base_.mean,
    std=_base_.std,
)
train_dataloader = dict(dataset=dict(classes=[0, 1, 2, 3, 4], unlabelled=True))
few = loader(
    dict(type="pld_mmdet.LabelSubsets", dataset=target, labelled=10, subsets=draws),
    draws * 50,  # all of them
    train=True,
)
unlabelled = loader(target, 50, train=True)
theta = stage("mae", 400, optim=_base_.slower)
longer = 600
further = stage("further", longer, data=unlabelled)
finetune = stage("finetune", 100, data=few, optim=_base_.slower, schedule=cosine())
train_cfg = staged(
    theta, further, dict(further, name="distill"), stage("export", 0), finetune
)
default_hooks = dict(checkpoint=dict(interval=500))
val_dataloader = test_dataloader = dict(dataset=dict(classes=[5, 6, 7, 8, 9]))

# Rows after the first start from its theta, of the same seed (`direct` leaves the
# student as it was: its copies are tuned).
onward = "configs/self_distill_pretrain/further.py"
experiment = table(
    "self_distill_pretrain",
    row("further", "Further pre-training", config=onward, init="direct"),
    row(
        "short",
        "Further pre-training, a quarter as long",
        *lengths(longer // 4),
        config=onward,
        init="direct",
    ),
    row(
        "self_distill_pretrain",
        "Self-distilled further pre-training",
        config="configs/self_distill_pretrain/distill.py",
        init="further",
    ),
    row(
        "direct", "Fine-tuned at once", config="configs/self_distill_pretrain/direct.py"
    ),
    raw_pixels(on="50 labels", c=None, train="train_cfg.stages.4.dataloader.dataset"),
    columns={"accuracy": ("test", "accuracy")},
    reported="mean over encoders fine-tuned on four draws of 50 labels",
)
walk = lengths(0, 0, 1, 0, 1)
