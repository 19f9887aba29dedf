# Control: the same steps on the support set, nothing from the test stream.
_base_ = "./streets_3shot.py"

model = dict(unsup_weight=0.0)
