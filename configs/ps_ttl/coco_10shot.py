# PS-TTL on COCO, 10 shots of all 80 classes.
_base_ = "./coco_1shot.py"

load_from = "work_dirs/defrcn/coco_10shot/last.pth"
how_to_get = dict(
    data=_base_.how_to_get.data,
    checkpoint="python tools/train.py configs/defrcn/coco_10shot.py",
)
train_cfg = dict(
    support_dataloader=dict(
        dataset=dict(dataset=dict(ann_file=_base_.stem + "_10shot_seed0.json"))
    )
)
