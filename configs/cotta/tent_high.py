# TENT with ten times the learning rate: fast, and it forgets.
_base_ = ["./tent.py"]

optim_wrapper = dict(optimizer=dict(lr=1e-2))
