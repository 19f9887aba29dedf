# The labelled stage alone.
_base_ = "./toy.py"

model = dict(learner=dict(predict_on="student"))
train_cfg = dict(stages=[_base_.labelled_first])
