# A Faster R-CNN (4 M parameters) on ImageNet's EfficientNet-Lite0, as users of mmdet
# have it: the pretrained norms stand still. For images of 320 x 240 px.
_base_ = []
from pld_mmdet.recipes.detectors import box_head, faster_rcnn, learning

lite0 = faster_rcnn(
    dict(
        type="pld_mmdet.EfficientNetLite",
        norm_eval=True,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="weights/efficientnet_lite0/efficientnet-lite0-57934424.pth",
        ),
    ),
    64,
    [4, 8, 16, 32, 64],
    [8],
    box_head(64, 9, hidden=256),
    pad=32,
    neck=dict(
        type="FPN",
        in_channels=[24, 40, 112, 320],
        out_channels=64,
        num_outs=5,
        norm_cfg=dict(type="GN", num_groups=16, requires_grad=True),
    ),
    **learning((500, 200), (500, 200), rois=128),
)
lite0["data_preprocessor"].update(mean=[127.0] * 3, std=[128.0] * 3, bgr_to_rgb=True)
