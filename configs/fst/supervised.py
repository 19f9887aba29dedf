# The plain baseline: the 16 labelled scenes alone, 4 a batch.
_base_ = "./toy.py"

model = dict(
    _delete_=True, type="pld_mmdet.SupervisedSegmentor", segmentor=_base_.segmentor
)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(
        _delete_=True, type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True
    ),
    dataset=dict(
        _delete_=True, type="pld_mmdet.SeededDataset", dataset=_base_.labelled
    ),
)
model_wrapper_cfg = None
