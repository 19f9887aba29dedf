# Distillation on the task alone, as long as the four stages.
_base_ = "toy.py"
model = dict(
    recipe=dict(
        TSD=dict(teacher="finetuned", data="task", losses=["latent", "soft", "hard"])
    )
)
train_cfg = dict(
    stages=[
        {{_base_.mlm}},
        {{_base_.teacher}},
        dict(
            name="TSD",
            max_iters=400,
            dataloader={{_base_.task}},
            param_scheduler={{_base_.linear}},
        ),
    ]
)
