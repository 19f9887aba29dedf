# Distillation on the task alone, as long as the four stages.
_base_ = "toy.py"
from pld_mmdet.recipes import stage

model = dict(
    recipe=dict(
        TSD=dict(teacher="finetuned", data="task", losses=["latent", "soft", "hard"])
    )
)
train_cfg = dict(
    stages=[
        {{_base_.mlm}},
        {{_base_.teacher}},
        stage("TSD", 400, data={{_base_.task}}, schedule={{_base_.linear}}),
    ]
)
