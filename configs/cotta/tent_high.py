# TENT with ten times the learning rate.
_base_ = ["./tent.py"]

optim_wrapper = dict(optimizer=dict(lr=1e-2))
