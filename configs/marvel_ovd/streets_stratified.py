# Both views and stratified assignment.
_base_ = "./streets.py"

model = dict(mining=False, reweighting=False)
