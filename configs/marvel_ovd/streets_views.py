# VL-PLM and both views.
_base_ = "./streets.py"

model = dict(stratified=False, mining=False, reweighting=False)
