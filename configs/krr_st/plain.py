# A student of random weights, fine-tuned on the labels: no pre-training.
_base_ = ["toy.py"]

train_cfg = dict(stages=[_base_.finetune])
