# FedAvg on the few labels in the setting of views.py, with as many steps.
_base_ = ["./views.py"]

train_cfg = dict(local=[dict(branch="labelled", steps=10)])
