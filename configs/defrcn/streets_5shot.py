# 5 shot(s) of all 8 classes on FoggyStreets' clear scenes.
_base_ = "./streets_3shot.py"

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file=_base_.stem + "_5shot_seed0.json"))
)
