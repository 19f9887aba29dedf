# A small Faster R-CNN (1.8 M parameters) that two CPU cores train in minutes.
# Anchors, samplers and proposal counts are scaled to images of 384 x 192 px.
_base_ = []
from pld_mmdet.recipes.detectors import box_head, faster_rcnn, learning

small_detector = faster_rcnn(
    dict(
        type="ResNet",
        depth=18,
        base_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,  # source training turns it off
        style="pytorch",
    ),
    64,
    [4, 8, 16, 32, 64],
    [4],
    box_head(64, 8, hidden=256, reg_class_agnostic=True),
    std=[57.375, 57.120, 58.395],
    pad=32,
    roi=dict(
        roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2),
        finest_scale=28,
    ),
    neck=dict(type="FPN", in_channels=[16, 32, 64, 128], out_channels=64, num_outs=5),
    **learning((500, 150), (500, 200), rois=64, positive=0.6),
)
