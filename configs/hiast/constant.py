# Plain self-training in rounds: a constant threshold of 0.9 for all classes.
_base_ = "./ias.py"

model = dict(beta=1.0)
