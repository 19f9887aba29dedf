# LPLD's mined boxes on top of SF-UT.
_base_ = "./foggy_cityscapes.py"

model = dict(
    type="pld_mmdet.LPLD",
    lpl_max_iou=0.4,
    lpl_min_certainty=0.9,
    lpl_max_background=0.99,
    lpl_loss_weight=0.1,
)
