# 4DGen with score distillation: its prior is a small U-Net, trained on other objects.
_base_ = "toy.py"
from pld_mmdet.recipes import stage

model = dict(
    prior=_base_.view_prior, process=dict(type="pld_mmdet.EpsProcess"), sds_share=0.5
)
train_cfg = dict(
    stages=[
        stage(
            "prior",
            120,
            data=_base_.objects,
            optim=_base_.train_cfg.stages[0].optim_wrapper,
        ),
        *_base_.train_cfg.stages[1:],
    ]
)
