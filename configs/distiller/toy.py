# Distiller on topic documents: BERT 2 x 64, fine-tuned on 24 labels -> 1 x 32, which
# sees 600 documents of the task. One teacher a seed: the rows begin from its run.
_base_ = "../_base_/models/topic_teacher.py"
from pld_mmdet.recipes import stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

model = dict(
    type="pld_mmdet.Distiller",
    pretrained={{_base_.pretrained}},
    finetuned={{_base_.finetuned}},
    student={{_base_.student}},
)
train_cfg = staged(
    {{_base_.mlm}},
    {{_base_.teach}},
    stage("distill", 300, data={{_base_.transfer}}, schedule={{_base_.falling}}),
)

given = lengths(0, 0)
taught = dict(init="teacher")
unit = ["model.unit=True", "model.inter_weight=0.1"]
mse = ["model.inter=mse", "fine_tune=True"]
none = ("model.inter=None", "fine_tune=True")
experiment = table(
    "distiller",
    row(
        "plain",
        "Student on 24 labels",
        "model.hard_weight=1",
        "model.pred_weight=0",
        *none,
        "train_cfg.stages.2.dataloader.dataset.part=task",
        "train_cfg.stages.2.dataloader.dataset.size=24",
        *given,
        **taught,
    ),
    row("kd", "Logits only", *none, *given, **taught),
    row("kd_mse", "Logits and states, MSE", *mse, *given, **taught),
    row("distiller", "Distiller, MI-alpha as released", *given, **taught),
    row("mi_unit", "MI-alpha, unit critic, weight 0.1", *unit, *given, **taught),
    row(
        "teacher",
        "The teacher itself",
        *lengths(None, None, 1),
        evaluate=dict(test=["model.predict_on=finetuned"]),
    ),
    row("bag_of_words", "Bag of words, logistic regression", baseline="bag_of_words"),
)
walk = [*lengths(1, 1, 1), *in_parts("dataset.size=10")]
