# LPLD's mined boxes on top of SF-UT, on the embedded data.
_base_ = "./foggy_streets.py"

model = dict(
    type="pld_mmdet.LPLD",
    lpl_max_iou=0.4,
    lpl_min_certainty=0.9,
    lpl_max_background=0.99,
    lpl_loss_weight=0.1,
)
