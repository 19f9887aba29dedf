# All but the reweighting.
_base_ = "./streets.py"

model = dict(reweighting=False)
