# 1 shot(s) of all 8 classes on FoggyStreets' clear scenes.
_base_ = "./streets_3shot.py"

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_1shot_seed0.json"))
)
