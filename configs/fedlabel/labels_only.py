# FedAvg on the few labels, no pseudo-labels.
_base_ = ["./toy.py"]

train_cfg = dict(local=[dict(branch="labelled", steps=5)])
