# The small network on the labels alone.
_base_ = "toy.py"

from pld_mmdet.recipes import loader

few = dict(type="pld_mmdet.Digits", part="train", labelled=3)
train_cfg = dict(
    _delete_=True,
    type="pld_mmdet.StagedLoop",
    stages=[
        dict(name="student", max_iters=300, dataloader=loader(few, 30, train=True))
    ],
)
