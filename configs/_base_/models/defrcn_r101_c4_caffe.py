# DeFRCN's detector: Faster R-CNN R101-C4 with gradient decoupling towards the RPN and
# the RoI head. RoIAlign 7 x 7 before res5 (detectron2's C4 has 14 x 14), 15 anchors.
_base_ = "./faster_rcnn_r50_c4_caffe.py"

detector = dict(
    backbone=dict(
        depth=101,
        frozen_stages=2,  # stem, res2, res3 (FREEZE_AT 3)
        init_cfg=dict(
            type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe"
        ),
    ),
    rpn_head=dict(
        type="pld_mmdet.DecoupledRPNHead",
        gradient_scale=0.0,
        anchor_generator=dict(scales=[2, 4, 8, 16, 32]),  # sides of 32 to 512 px
    ),
    roi_head=dict(
        shared_head=dict(
            depth=101,
            init_cfg=dict(
                type="Pretrained", checkpoint="open-mmlab://detectron2/resnet101_caffe"
            ),
        ),
        bbox_roi_extractor=dict(
            type="pld_mmdet.DecoupledRoIExtractor",
            gradient_scale=0.75,
            roi_layer=dict(output_size=7),
        ),
        bbox_head=dict(roi_feat_size=4, num_classes=15),
    ),
    test_cfg=dict(rpn=dict(max_per_img=1000)),
)
