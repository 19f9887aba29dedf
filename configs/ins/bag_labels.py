# The plain row of toy.py: every instance learns its bag's label, for as many steps.
_base_ = "./toy.py"

train_cfg = dict(stages=[dict(name="bag_labels", max_iters=497)])
