# DMAE on ImageNet-1K, ViT-L to ViT-B, 100 epochs: the official code's settings
# (pretrain.sh of UCSC-VLAA/DMAE, a0f4959): 8 processes of 128 images, gradients of 4
# iterations added up, so batches of 4096; rate 1.5e-4 * 4096 / 256 = 2.4e-3.
# tools/dist_train.sh configs/dmae/paper.py 8 --amp. Images are made smaller by area
# averages (theirs: bicubic with antialias).
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import cosine, images, optimizer, warm_up

teacher = "data/teachers/mae_visualize_vit_large.pth"
how_to_get = dict(
    data=images.IMAGENET_TRAIN,
    teacher="mkdir -p data/teachers && curl -L -o "
    "data/teachers/mae_visualize_vit_large.pth https://dl.fbaipublicfiles.com/mae/"
    "visualize/mae_visualize_vit_large.pth  (MAE ViT-L with pixel targets)",
)
batches = 1251  # iterations of an epoch: 1 281 167 // (8 * 128)

model = dict(
    type="pld_mmdet.DMAE",
    student=dict(type="pld_mmdet.MaskedViT", dim=768, depth=12, heads=12),
    decoder=dict(type="pld_mmdet.MAEDecoder", dim=512, depth=8, heads=16),
    teacher=dict(
        type="pld_mmdet.MaskedViT", dim=1024, depth=24, heads=16, checkpoint=teacher
    ),
    aligned=[(8, 17)],
    alpha=1.0,
    mask_ratio=0.75,
    normalise=True,
    num_classes=1000,
)
train_dataloader = images.imagenet_crops(128)
optim_wrapper = optimizer(
    "AdamW",
    2.4e-3,
    betas=(0.9, 0.95),
    weight_decay=0.05,
    spare_norms=True,
    accumulative_counts=4,
)
param_scheduler = [
    warm_up(1e-4, 20 * batches),
    cosine(eta_min=0.0, begin=20 * batches, end=100 * batches),
]
train_cfg = dict(
    type="IterBasedTrainLoop", max_iters=100 * batches, val_interval=100 * batches + 1
)
default_hooks = dict(checkpoint=dict(interval=4 * batches))
find_unused_parameters = True  # the classifier has its turn when fine-tuned
