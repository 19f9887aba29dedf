# The rival: toy.py's student learns from its own average (CutMix self-training, which
# answers), 140 iterations on labelled scenes, then 60 on all; no big teachers.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

model = dict(
    _delete_=True,
    type="pld_mmdet.FST",
    learner=dict(
        type="pld_mmdet.CutMixSelfTraining",
        segmentor=_base_.student,
        predict_on="teacher",
    ),
    depth=0,
    mu=0.96,
    buffers="keep",
)
train_cfg = dict(stages=[stage("labelled", 140), stage("self_training", 60)])
model_wrapper_cfg = dict(type="VirtualStepDDP")
