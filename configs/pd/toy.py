# PD on topic documents: BERT 2 x 64 teaches BERT 1 x 32 on 600 documents of the task
# (D_T); the student has filled in masked words of 4000 others (D_LM). 24 labels (D_L).
# One teacher a seed: the rows begin from its run.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

model = dict(
    type="pld_mmdet.PD",
    student={{_base_.student}},
    teacher={{_base_.finetuned}},
    student_lm={{_base_.student_lm}},
    teacher_lm={{_base_.pretrained}},
)
train_cfg = staged(
    {{_base_.teacher_mlm}},
    {{_base_.teach}},
    {{_base_.mlm}},
    stage("distill", 200, data={{_base_.transfer}}, schedule={{_base_.falling}}),
    stage("finetune", 100, schedule={{_base_.falling}}),
)


def only(*steps):
    names = ("teacher_mlm", "teacher", "mlm", "distill", "finetune")
    left_out = [i for i, name in enumerate(names) if name not in steps]
    return [f"train_cfg.stages.{i}.max_iters=0" for i in left_out]


all_three = only("mlm", "distill", "finetune")
experiment = table(
    "pd",
    row("basic", "Basic training", *only("finetune"), init="teacher"),
    row("d", "Distillation (D)", *only("distill"), init="teacher"),
    row("pf", "Pre-training, fine-tuning", *only("mlm", "finetune"), init="teacher"),
    row("pd", "Pre-trained distillation (PD)", *only("mlm", "distill"), init="teacher"),
    row("pd_f", "PD and fine-tuning (PD+F)", *all_three, init="teacher"),
    row(
        "teacher",
        "The teacher itself",
        *only("teacher_mlm", "teacher"),
        evaluate=dict(test=["model.predict_on=teacher"]),
    ),
    row("bag_of_words", "Bag of words, logistic regression", baseline="bag_of_words"),
)
walk = [*lengths(1, 1, 1, 1, 1), *in_parts("dataset.size=10")]
