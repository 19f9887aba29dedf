# The last three stages, as long as the four: general data is used with the fine-tuned
# teacher only.
_base_ = "toy.py"
linear = {{_base_.linear}}
general, task = {{_base_.general}}, {{_base_.task}}
model = dict(
    recipe=dict(
        GED=dict(teacher="finetuned", data="general", losses=["latent"]),
        TAD=dict(teacher="finetuned", data="task", losses=["latent"]),
        TSD=dict(teacher="finetuned", data="task", losses=["latent", "soft", "hard"]),
    )
)
train_cfg = dict(
    stages=[
        {{_base_.mlm}},
        {{_base_.teacher}},
        dict(name="GED", max_iters=400, dataloader=general, param_scheduler=linear),
        dict(name="TAD", max_iters=200, dataloader=task, param_scheduler=linear),
        dict(name="TSD", max_iters=200, dataloader=task, param_scheduler=linear),
    ]
)
