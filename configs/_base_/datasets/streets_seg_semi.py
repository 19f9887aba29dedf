# Clear streets with 16 labelled and 304 unlabelled scenes; a batch has 4 of each.
_base_ = "./streets_seg.py"
from pld_mmdet.recipes import from_each

labelled_scenes = list(range(0, 320, 20))
unlabelled_scenes = [scene for scene in range(320) if scene % 20]
_streets = dict(**_base_.streets, data_prefix=_base_.clear_scenes["train"])
labelled = dict(
    **_streets,
    indices=labelled_scenes,
    pipeline=[_base_.load, _base_.label, *_base_.weak, _base_.pack],
)
unlabelled = dict(
    **_streets,
    indices=unlabelled_scenes,
    pipeline=[_base_.load, *_base_.weak, _base_.pack],
)
train_dataloader = dict(
    batch_size=8,
    sampler=from_each(8, 1, 1, _delete_=True),
    dataset=dict(
        _delete_=True,
        type="pld_mmdet.SeededDataset",
        dataset=dict(type="ConcatDataset", datasets=[labelled, unlabelled]),
    ),
)
