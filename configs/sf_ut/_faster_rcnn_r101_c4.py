# The release's second detector (r101_c4_cs_*.yaml): ResNet-101 up to res4 with batch
# norm alive from res3 on, RoIs of 7 x 7 into two layers of 2048; no res5.
_base_ = "../_base_/models/faster_rcnn_r50_c4_caffe.py"
from pld_mmdet.recipes.detection import box_head

detector = dict(
    backbone=dict(
        depth=101, norm_cfg=dict(type="BN", requires_grad=True), norm_eval=False
    ),
    rpn_head=dict(anchor_generator=dict(scales=[4, 8, 16, 32])),  # 64 to 512 px
    roi_head=dict(
        shared_head=None,
        bbox_roi_extractor=dict(roi_layer=dict(output_size=7)),
        bbox_head=dict(_delete_=True, **box_head(1024, 8, hidden=2048)),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=256))),
    test_cfg=dict(rpn=dict(max_per_img=1000)),
)
