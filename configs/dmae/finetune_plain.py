# The rival of finetune.py: a plain MAE, fine-tuned on the same labels.
_base_ = ["./finetune.py"]
from pld_mmdet.recipes import stage

model = dict(alpha=0.0, teacher=None, teacher_decoder=None)
train_cfg = dict(stages=[stage("distill", 20 * _base_.epoch), _base_.finetune])
