# MEAL V2 on digits: two small CNNs as teachers, made on all 1077 labels; an MLP that is
# first trained on 150 labels, then sees all images without labels. Every student takes
# 300 + 400 steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

few = loader(dict(type="pld_mmdet.Digits", part="train", labelled=15), 64, train=True)
whole = loader(dict(type="pld_mmdet.Digits", part="train"), 64, train=True)
teacher = dict(type="pld_mmdet.SmallConvNet", widths=(16, 32))
model = dict(
    type="pld_mmdet.MEALV2",
    student=dict(type="pld_mmdet.MLP", sizes=(64, 32, 10)),
    teachers=[teacher, teacher],
    num_classes=10,
)
late = optimizer("SGD", 0.01, momentum=0.9)  # no weight decay, as published
train_cfg = staged(
    stage("teacher", 400, data=whole),
    stage("student", 300, data=few),
    stage("distill", 400, data=whole, optim=late),
)
optim_wrapper = optimizer("Adam", 3e-3)
find_unused_parameters = True  # on several processes: one part learns at a time

same_images = "train_cfg.stages.2.dataloader.dataset.labelled=15"
no_judge = "model.discriminator=False"
experiment = table(
    "meal_v2",
    row(
        "plain",
        "Cross-entropy continued on 150 labels",
        "train_cfg.stages.2.name=student_2",
        same_images,
    ),
    row("one_teacher", "One teacher a batch", no_judge, "model.combine=one"),
    row("no_judge", "MEAL V2 without discriminator", no_judge),
    row("meal_v2", "MEAL V2"),
    raw_pixels(on="150 labels", c=None, train="train_cfg.stages.1.dataloader.dataset"),
    columns={"accuracy": ("test", "accuracy"), "ECE": ("test", "ece")},
)
walk = lengths(1, 1, 1)
