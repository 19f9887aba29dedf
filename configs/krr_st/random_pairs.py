# KRR-ST without distillation: as many real images, drawn at random, and their targets.
_base_ = ["toy.py"]

train_cfg = dict(stages=[_base_.target, _base_.pretrain, _base_.finetune])
