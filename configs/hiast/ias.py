# HIAST's thresholds alone: no regularisers, nothing pasted.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

model = dict(kld=0.0, ent=0.0, cst=0.0)
rounds = [
    stage(
        f"round_{number}",
        60,
        data=_base_.plain_round_dataloader,
        work=_base_.work_dataloader,
    )
    for number in (1, 2)
]
train_cfg = dict(stages=[_base_.warm_up, *rounds])
