# Further pre-training alone, from the MAE in a checkpoint of direct.py (load_from).
_base_ = ["./toy.py"]

train_cfg = dict(stages=[_base_.further, _base_.finetune])
