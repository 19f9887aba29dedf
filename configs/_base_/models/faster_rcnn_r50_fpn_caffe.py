# Faster R-CNN R50-FPN as Soft Teacher trains it: detectron2's ("caffe") weights, BGR
# pixels, batch norm frozen altogether, stem and first stage frozen.
_base_ = []
from pld_mmdet.recipes.detectors import box_head, faster_rcnn, learning

widths = [256, 512, 1024, 2048]
detector = faster_rcnn(
    dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="caffe",
        init_cfg=dict(
            type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe"
        ),
    ),
    256,
    [4, 8, 16, 32, 64],
    [8],
    box_head(256, 80, hidden=1024),
    pad=32,
    neck=dict(type="FPN", in_channels=widths, out_channels=256, num_outs=5),
    **learning((2000, 1000), (1000, 1000)),
)
