# The plain baseline: toy.py's student on the 16 labelled scenes alone, 6 a batch.
_base_ = "./toy.py"

model = dict(
    _delete_=True, type="pld_mmdet.SupervisedSegmentor", segmentor=_base_.student
)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=200)
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True
    ),
    dataset=dict(
        _delete_=True, type="pld_mmdet.SeededDataset", dataset=_base_.labelled
    ),
)
