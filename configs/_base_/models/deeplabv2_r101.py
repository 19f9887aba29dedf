# DeepLabV2: dilated ResNet-101 of stride 8, a sum of four dilated classifiers.
_base_ = []
from pld_mmdet.recipes.segmentation import encoder_decoder

segmentor = encoder_decoder(
    dict(
        type="ResNetV1c",
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type="BN", requires_grad=True),
        contract_dilation=True,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet101_v1c"),
    ),
    dict(
        type="pld_mmdet.DeepLabV2Head",
        in_channels=2048,
        num_classes=19,
        dilations=(6, 12, 18, 24),
    ),
)
