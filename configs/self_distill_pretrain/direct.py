# The MAE of 0 to 4, fine-tuned at once on 5 to 9: the start of the other rows.
_base_ = ["./toy.py"]

train_cfg = dict(stages=[_base_.theta, _base_.finetune])
