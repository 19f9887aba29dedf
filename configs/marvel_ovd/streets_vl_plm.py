# VL-PLM: all candidates as labels, weak view only.
_base_ = "./streets.py"

model = dict(strong_view=False, stratified=False, mining=False, reweighting=False)
