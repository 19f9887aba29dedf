# The plain baseline: the 16 labelled scenes in both stages, 4 a batch.
_base_ = "./toy.py"

model = dict(learner=dict(predict_on="student"))
train_cfg = dict(
    stages=[_base_.labelled_first, dict(name="labelled_on", max_iters=100)]
)
