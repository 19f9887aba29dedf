# Faster R-CNN C4 as in the SFOD papers (detectron2's R50-C4): stem to res4 shared,
# res5 as RoI head, BGR pixels, frozen batch norm, stem and res2 frozen.
_base_ = []
from pld_mmdet.recipes.detectors import box_head, faster_rcnn, learning

frozen = dict(norm_cfg=dict(type="BN", requires_grad=False), norm_eval=True)
detector = faster_rcnn(
    dict(
        type="ResNet",
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        frozen_stages=1,
        style="caffe",
        **frozen,
    ),
    1024,
    [16],
    [8, 16, 32],  # sides of 128, 256, 512 px
    box_head(2048, 8),
    pooled=14,
    shared_head=dict(
        type="ResLayer",
        depth=50,
        stage=3,
        stride=2,
        dilation=1,
        style="caffe",
        **frozen,
    ),
    # detectron2 matches the best anchor of an object at any IoU above 0
    **learning((12000, 2000), (6000, 300), least=1e-6),
)
