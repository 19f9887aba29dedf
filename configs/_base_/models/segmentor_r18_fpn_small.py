# ResNet-18 with 8 base channels and a semantic FPN head of 16: 0.2 M parameters.
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
        depth=18,
        base_channels=8,
        stem_channels=8,
        norm_cfg=dict(type="BN"),
    ),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=[16, 16, 16, 16],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=16,
        dropout_ratio=0.0,
        num_classes=7,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    test_cfg=dict(mode="whole"),
)
