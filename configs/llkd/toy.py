# LLKD on digits: a teacher of 40 labels, a small student, 1037 images without a label;
# every row is read at equal numbers of visits.
_base_ = "plain.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.LLKD",
    student={{_base_.student}},
    teacher=dict(type="pld_mmdet.MLP", sizes=(64, 128, 10)),
    samples=1037,
    num_classes=10,
    budgets=(1500, 4000, 12000),
    predict_on="budgets",
)
unlabelled = dict(type="pld_mmdet.Digits", part="train", labelled=-4)
seen = loader(unlabelled, 64, train=True)
train_cfg = staged(
    stage("teacher", 300, optim=optimizer("Adam", lr=2e-3)),
    stage("student", 900, data=seen, work=loader(unlabelled, 256)),
    _delete_=True,
)
find_unused_parameters = True  # on several processes: one of the two learns

val_evaluator = test_evaluator = dict(_delete_=True, type="pld_mmdet.TokenMeanMetric")
alike = "model.weight=none"
confident = ["model.rule=teacher", "model.confidence=0.9"]
experiment = table(
    "llkd",
    row("all", "All pseudo-labels", "model.rule=all", alike),
    row("confident", "Confidence >= 0.9", *confident, alike),
    row("uncertain", "Uncertain only", "model.rule=student"),
    row("llkd", "LLKD"),
    metric="at_4000",
    columns={
        "1500 visits": ("test", "at_1500"),
        "4000": ("test", "at_4000"),
        "12000": ("test", "at_12000"),
        "teacher": ("test", "teacher"),
    },
    reported="student after so many samples in a backward pass",
)
walk = [*lengths(1, 2), "train_cfg.stages.1.dataloader.batch_size=8"]
