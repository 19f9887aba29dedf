# PS-TTL on FoggyStreets' clear test scenes, 1 shot(s).
_base_ = "./streets_3shot.py"

load_from = "work_dirs/defrcn/streets_1shot/last.pth"
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint="python tools/train.py configs/defrcn/streets_1shot.py",
)
train_cfg = dict(
    support_dataloader=dict(
        dataset=dict(dataset=dict(ann_file=_base_.stem + "_1shot_seed0.json"))
    )
)
