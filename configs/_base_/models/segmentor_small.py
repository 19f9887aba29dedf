# ResNet-18 without its last stage, 12 base channels; one convolution over its three
# maps, at a quarter of the image's size: 0.2 M parameters.
_base_ = []
from pld_mmdet.recipes.segmentation import encoder_decoder

segmentor = encoder_decoder(
    dict(
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
    dict(
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
)
