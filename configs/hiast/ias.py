# HIAST's thresholds alone: no regularisers, nothing pasted.
_base_ = "./toy.py"

model = dict(kld=0.0, ent=0.0, cst=0.0)
rounds = [
    dict(
        name=f"round_{number}",
        max_iters=60,
        dataloader=_base_.plain_round_dataloader,
        work_dataloader=_base_.work_dataloader,
    )
    for number in (1, 2)
]
train_cfg = dict(stages=[_base_.warm_up, *rounds])
