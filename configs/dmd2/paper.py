# DMD2 on ImageNet 64 x 64, class-conditional, one step: the official code's settings
# (tianweiy/DMD2, 8d8fa55; EDM teacher, 200 000 critic steps with the GAN from the
# start): tools/dist_train.sh configs/dmd2/paper.py 7, 40 images each; alone, divide the
# rate by 7. Theirs runs in bfloat16.
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import images, loader, parts, warm_up

data_root = "data/imagenet/train"
teacher = "data/teachers/edm_imagenet64"
how_to_get = dict(
    data=images.IMAGENET_TRAIN,
    teacher="An EDM denoiser of ImageNet 64 x 64 in diffusers' format (config.json "
    "and safetensors of a UNet2DModel) in data/teachers/edm_imagenet64.",
)

# The ADM architecture of EDM's ImageNet teacher (295.90 M parameters) in diffusers'
# words: residual blocks, not convolutions, change the resolution.
unet = dict(
    type="pld_mmdet.DiffusersUNet",
    sample_size=64,
    in_channels=3,
    out_channels=3,
    layers_per_block=3,
    block_out_channels=(192, 384, 576, 768),
    down_block_types=("ResnetDownsampleBlock2D",) + ("AttnDownBlock2D",) * 3,
    up_block_types=("AttnUpBlock2D",) * 3 + ("UpBlock2D",),
    downsample_type="resnet",
    upsample_type="resnet",
    attention_head_dim=64,
    resnet_time_scale_shift="scale_shift",
    num_class_embeds=1000,
)
model = dict(
    type="pld_mmdet.DMD2",
    process=dict(type="pld_mmdet.EDMProcess"),
    denoiser=unet,
    teacher=dict(type="pld_mmdet.DiffusersUNet", pretrained=teacher),
    head=dict(type="pld_mmdet.ConvHead", channels=768, size=8),
    bottleneck="unet.down_blocks.3",  # the encoder's last output, before the middle
    num_classes=1000,
    generator_interval=5,
    denoising_steps=(999,),
    gan_weight=3e-3,
    critic_gan_weight=1e-2,
    level_range=(0.02, 0.98),
)

train_dataloader = loader(
    dict(
        type="pld_mmdet.LabelledImages",
        data_root=data_root,
        size=64,
        flip=False,
        mean=0.5,  # the teacher's pixels lie in [-1, 1]
        std=0.5,
    ),
    40,
    train=True,
    seeded=True,
    workers=8,
)
optimizer = dict(type="AdamW", lr=2e-6, betas=(0.9, 0.999), weight_decay=0.01)
_part = dict(optimizer=optimizer, clip_grad=dict(max_norm=10.0))
optim_wrapper = parts(generator=_part, critic=_part)
param_scheduler = [
    # 500 / 7: accelerate moves a schedule once a process
    warm_up(2e-3, 71)
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=200000, val_interval=200001)
model_wrapper_cfg = dict(type="PartsParallel")
default_hooks = dict(checkpoint=dict(interval=5000))
