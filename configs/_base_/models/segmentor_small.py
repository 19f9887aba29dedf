# ResNet-18 without its last stage, 12 base channels; one convolution over its three
# maps, at a quarter of the image's size: 0.2 M parameters.
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
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        base_channels=12,
        stem_channels=12,
        norm_cfg=dict(type="BN"),
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=[12, 24, 48],
        in_index=[0, 1, 2],
        input_transform="resize_concat",
        channels=24,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=7,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    test_cfg=dict(mode="whole"),
)
