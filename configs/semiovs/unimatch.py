# The baseline: UniMatch on the clear scenes alone, 2 labelled and 2 + 2 unlabelled.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

model = dict(
    _delete_=True, type="pld_mmdet.UniMatch", segmentor=_base_.segmentor, threshold=0.95
)
train_cfg = dict(stages=[stage("semi", 160)])
train_dataloader = dict(
    batch_size=6,
    sampler=dict(batch_size=6, source_ratio=[1, 2]),
    dataset=dict(dataset=dict(datasets=[_base_.labelled, _base_.unlabelled])),
)
