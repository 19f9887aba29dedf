# PS-TTL, VOC split 3, 3 shots: the recipe that was released for split 1, 1 shot.
_base_ = "./voc_split3_1shot.py"

load_from = "work_dirs/defrcn/voc_split3_3shot/last.pth"
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint="python tools/train.py configs/defrcn/voc_split3_3shot.py",
)
train_cfg = dict(
    support_dataloader=dict(
        dataset=dict(dataset=dict(ann_file=_base_.stem + "_3shot_seed0.json"))
    )
)
