# G2SD on scikit-learn's digits: the teacher pre-trains without labels on 1077 images
# and is fine-tuned on 100 labels; the student, half as wide, learns from the teacher's
# decoder on the same images (`generic`), then from 100 labels and the fine-tuned
# teacher (`specific`). No CutMix: a box of another digit leaves no digit of 8 x 8.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/digits.py",
    "../_base_/models/digits_mae.py",
]

from pld_mmdet.recipes import stage, staged
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

model = dict(
    type="pld_mmdet.G2SD",
    student=dict(_base_.vit, dim=32, depth=3),
    decoder=dict(_base_.decoder, dim=32, depth=1),
    teacher=dict(_base_.vit, dim=64, depth=4),
    teacher_decoder=dict(_base_.decoder, dim=32, depth=2),
    until=0,  # half of the teacher's decoder, as published
    learn_teachers=True,
    mixup=0.2,
    cutmix=0.0,
    mean=_base_.mean,
    std=_base_.std,
)
generic = stage("generic", 300)
specific = stage("specific", 200, **_base_.tuning)
train_cfg = staged(
    stage("teacher", 600, optim=_base_.slower),
    stage("tutor", 200, **_base_.tuning),
    generic,
    stage("export", 0),
    specific,
)
default_hooks = dict(checkpoint=dict(interval=500))

# Rows of a student start from the teachers of the row `teacher`, of the same seed.
student, taught = "configs/g2sd/student.py", dict(init="teacher")
alone = dict(config=student, evaluate=dict(test=["model.predict_on=finetuned"]))
mae, tuned = "train_cfg.stages.0.name=mae", "train_cfg.stages.2.name=finetune"
experiment = table(
    "g2sd",
    row("plain", "MAE student, fine-tuned", mae, tuned, **alone),
    row(
        "long",
        "MAE student, three times as long, fine-tuned",
        mae,
        tuned,
        *lengths(900),
        **alone,
    ),
    row("generic", "Generic stage, fine-tuned", tuned, **alone, **taught),
    row("g2sd", "G2SD (generic and specific)", config=student, **taught),
    row("teacher", "The teacher, fine-tuned", config="configs/g2sd/teacher.py"),
    raw_pixels(on="100 labels", c=None, train="train_cfg.stages.4.dataloader.dataset"),
    columns={"accuracy": ("test", "accuracy")},
    reported="both heads of the student, fine-tuned on 100 labels",
    gates=[
        dict(
            title="the fine-tuned teacher over the fine-tuned MAE student",
            row="teacher",
            minus="plain",
            on="test",
            metric="accuracy",
            at_least=0.0,
        )
    ],
)
walk = lengths(0, 0, 1, 0, 1)
