# DeepLabV2: dilated ResNet-101 of stride 8, a sum of four dilated classifiers.
segmentor = dict(
    type="mmseg.EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="ResNetV1c",
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type="BN", requires_grad=True),
        contract_dilation=True,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet101_v1c"),
    ),
    decode_head=dict(
        type="pld_mmdet.DeepLabV2Head",
        in_channels=2048,
        num_classes=19,
        dilations=(6, 12, 18, 24),
    ),
    test_cfg=dict(mode="whole"),
)
