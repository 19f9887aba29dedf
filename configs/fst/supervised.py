# The plain baseline: the 16 labelled scenes in both stages, 4 a batch.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

model = dict(learner=dict(predict_on="student"))
train_cfg = dict(stages=[_base_.labelled_first, stage("labelled_on", 100)])
