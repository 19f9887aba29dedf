# G2SD on ImageNet-1K, ViT-B to ViT-S: the official code's settings (GD.sh, SD.sh of
# pengzhiliang/G2SD, commit 6146adf). Generic: 8 processes of 256 images, gradients of 2
# iterations added up (4096 images, rate 1.5e-4 * 4096 / 256), 300 epochs. Specific: 8
# processes of 128 images (rate 1e-3 * 1024 / 256), 200 epochs, layers' rates fall by
# 0.75:
#   tools/dist_train.sh configs/g2sd/paper.py 8 --amp
# Left out: RandAugment and random erasing of the second stage. Images are made smaller
# by area averages (theirs: bicubic).
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import cosine, images, optimizer, stage, staged, warm_up

mae = "data/teachers/mae_visualize_vit_base.pth"
tuned = "data/teachers/mae_finetuned_vit_base.pth"
how_to_get = dict(
    data=images.IMAGENET_TRAIN,
    teacher="mkdir -p data/teachers && cd data/teachers && curl -LO "
    "https://dl.fbaipublicfiles.com/mae/visualize/mae_visualize_vit_base.pth && curl "
    "-LO https://dl.fbaipublicfiles.com/mae/finetune/mae_finetuned_vit_base.pth",
)
vit = dict(type="pld_mmdet.MaskedViT", depth=12)
wide = dict(type="pld_mmdet.MAEDecoder", dim=512, depth=8, heads=16, checkpoint=mae)
model = dict(
    type="pld_mmdet.G2SD",
    student=dict(vit, dim=384, heads=6),
    decoder=dict(type="pld_mmdet.MAEDecoder", dim=256, depth=4, heads=8),
    teacher=dict(vit, dim=768, heads=12, checkpoint=mae),
    teacher_decoder=wide,
    until=3,
    tutor_checkpoint=tuned,
    num_classes=1000,
)


train_dataloader = images.imagenet_crops(256)
epoch = 1281167 // (8 * 256)  # iterations
optim_wrapper = optimizer(
    "AdamW",
    2.4e-3,
    betas=(0.9, 0.95),
    weight_decay=0.05,
    spare_norms=True,
    accumulative_counts=2,
)


def warmed(epoch, warm, length, least):
    return [
        warm_up(1e-4, warm * epoch),
        cosine(eta_min=least, begin=warm * epoch, end=length * epoch),
    ]


# The patches' embedding is layer 0, the heads are layer 13; no decay of biases, norms
# and tokens.
rates = {"student.patch_embed.proj.weight": dict(lr_mult=0.75**13)}
rates |= {
    name: dict(lr_mult=0.75**13, decay_mult=0.0)
    for name in ("student.cls_token", "student.patch_embed.proj.bias")
}
rates["dist_token"] = dict(decay_mult=0.0)
for layer in range(12):
    block, rate = f"student.blocks.{layer}.", 0.75 ** (12 - layer)
    rates[block] = dict(lr_mult=rate)
    for part in ("norm1.", "norm2.", "attn.qkv.bias", "attn.proj.bias"):
        rates[block + part] = dict(lr_mult=rate, decay_mult=0.0)
    for part in ("mlp.fc1.bias", "mlp.fc2.bias"):
        rates[block + part] = dict(lr_mult=rate, decay_mult=0.0)
del block, rate, part, layer
short = 1281167 // (8 * 128)
train_cfg = staged(
    stage("generic", 300 * epoch, schedule=warmed(epoch, 10, 300, 0.0)),
    stage("export", 0),
    stage(
        "specific",
        200 * short,
        data=images.imagenet_crops(128),
        optim=optimizer(
            "AdamW",
            4e-3,
            weight_decay=0.05,
            paramwise_cfg=dict(
                norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=rates
            ),
            constructor="pld_mmdet.MergedGroups",
        ),
        schedule=warmed(short, 5, 200, 1e-6),
    ),
)
default_hooks = dict(checkpoint=dict(interval=2 * epoch))
find_unused_parameters = True  # each stage trains a part of the model
