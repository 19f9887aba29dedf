# DHO on the digits: 3 labels a class, 1047 images without a label, and a teacher that
# takes most 3s for 8s and most 7s for 1s. It is a logistic regression and stands for a
# vision-language model. What its rows share stands in plain.py.
_base_ = "./plain.py"
from pld_mmdet.recipes import from_each
from pld_mmdet.recipes.tables import on_test, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.DHO",
    student=_base_.student,
    teacher=dict(type="pld_mmdet.ConfusedDigitsTeacher"),
    num_classes=10,
    w1=0.5,
    w2=0.5,
    tau=2.0,
    alpha=0.5,
    beta=0.5,
)
train_dataloader = dict(
    batch_size=64,
    sampler=from_each(64, 1, 1, _delete_=True),
    dataset=dict(
        _delete_=True,
        type="pld_mmdet.LabelledAndNot",
        datasets=[
            dict(type="pld_mmdet.Digits", part="train", labelled=n) for n in (3, -3)
        ],
    ),
)
experiment = table(
    "dho",
    row("plain", "Cross-entropy on 30 labels"),
    row("single_head", "One head, both losses"),
    row(
        "dho",
        "DHO",
        evaluate={
            **{n: f"configs/dho/{n}.py" for n in ("teacher", "kd_head", "searched")},
            "test": None,
        },
    ),
    row(
        "teacher",
        "The teacher itself",
        config="configs/dho/teacher.py",
        baseline="untrained",
    ),
    columns=on_test("accuracy", "ECE")
    | {
        "searched mix": ("searched", "accuracy"),
        "kd head": ("kd_head", "accuracy"),
        "teacher": ("teacher", "accuracy"),
    },
    reported="student",
)
