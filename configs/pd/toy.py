# PD on topic documents: BERT 2 x 64 teaches BERT 1 x 32 on 600 documents of the task
# (D_T); the student has filled in masked words of 4000 others (D_LM). 24 labels (D_L).
# One teacher a seed: the rows begin from its run.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import row

model = dict(
    type="pld_mmdet.PD",
    student={{_base_.student}},
    teacher={{_base_.finetuned}},
    student_lm={{_base_.student_lm}},
    teacher_lm={{_base_.pretrained}},
)
train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[
        {{_base_.teacher_mlm}},
        {{_base_.teach}},
        {{_base_.mlm}},
        dict(
            name="distill",
            max_iters=200,
            dataloader={{_base_.transfer}},
            param_scheduler={{_base_.falling}},
        ),
        dict(name="finetune", max_iters=100, param_scheduler={{_base_.falling}}),
    ],
)


def only(*steps):
    names = ("teacher_mlm", "teacher", "mlm", "distill", "finetune")
    left_out = [i for i, name in enumerate(names) if name not in steps]
    return [f"train_cfg.stages.{i}.max_iters=0" for i in left_out]


experiment = dict(
    name="pd",
    metric="accuracy",
    reported="student of the last iteration",
    rows=[
        row("basic", "Basic training", *only("finetune"), init="teacher"),
        row("d", "Distillation (D)", *only("distill"), init="teacher"),
        row(
            "pf", "Pre-training, fine-tuning", *only("mlm", "finetune"), init="teacher"
        ),
        row(
            "pd",
            "Pre-trained distillation (PD)",
            *only("mlm", "distill"),
            init="teacher",
        ),
        row(
            "pd_f",
            "PD and fine-tuning (PD+F)",
            *only("mlm", "distill", "finetune"),
            init="teacher",
        ),
        row(
            "teacher",
            "The teacher itself",
            *only("teacher_mlm", "teacher"),
            evaluate=dict(test=["model.predict_on=teacher"]),
        ),
        row("bag_of_words", "Bag of words, logistic regression")
        | dict(baseline="bag_of_words"),
    ],
)
walk = [
    *[f"train_cfg.stages.{i}.max_iters=1" for i in range(5)],
    "val_dataloader.dataset.size=10",
    "test_dataloader.dataset.size=10",
]
