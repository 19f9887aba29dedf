# DeepLabV3+ on ResNet-101 of stride 8 for VOC's 21 classes, mmsegmentation's own head
# (its 3 x 3 convolutions are separable; those of AGMM and UniMatch are not).
_base_ = []
from pld_mmdet.recipes.segmentation import encoder_decoder

segmentor = encoder_decoder(
    dict(
        type="ResNet",
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,  # torchvision's replace_stride_with_dilation
        norm_cfg=dict(type="BN", requires_grad=True),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
    dict(
        type="DepthwiseSeparableASPPHead",
        in_channels=2048,
        in_index=3,
        channels=256,
        dilations=(1, 6, 12, 18),
        c1_in_channels=256,
        c1_channels=48,
        dropout_ratio=0.0,
        num_classes=21,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=True,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
)
