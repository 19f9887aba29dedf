# Self-distilled further pre-training of MAE ViT-B on a small set of photographs
# (seanie12/self-distillation, 4f6436f, run_*.sh): 20000 steps of 64 images twice, then
# 10000 of 32 with labels. Any folder of class folders; theirs are Aircraft, CUB,
# Chest X-ray, DTD, Dogs and Flowers. Their fine-tuning has dropout 0.1, ours has none.
#   python tools/train.py configs/self_distill_pretrain/paper.py --amp
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import loader, optimizer, stage, staged, warm_up

root = "data/cub"
mae = "data/teachers/mae_visualize_vit_base.pth"
how_to_get = dict(
    data="CUB-200-2011 (vision.caltech.edu/datasets/cub_200_2011), its train and test "
    "images as data/cub/train/<class>/<image>.jpg and data/cub/test/...",
    teacher="mkdir -p data/teachers && curl -L -o "
    "data/teachers/mae_visualize_vit_base.pth https://dl.fbaipublicfiles.com/mae/"
    "visualize/mae_visualize_vit_base.pth",
)
model = dict(
    type="pld_mmdet.SelfDistillPretrain",
    student=dict(type="pld_mmdet.MaskedViT", checkpoint=mae),
    decoder=dict(type="pld_mmdet.MAEDecoder", checkpoint=mae),
    num_classes=200,
)
images = dict(type="pld_mmdet.LabelledImages", size=224)
learned = dict(images, data_root=f"{root}/train")
train_dataloader = loader(learned, 64, train=True, workers=4)
test_dataloader = loader(dict(images, data_root=f"{root}/test"), 64, workers=4)
optim_wrapper = optimizer(
    "AdamW", 1.5e-4, betas=(0.9, 0.95), weight_decay=0.01, spare_norms=True
)


def falling(steps, warm=0):  # linearly to 0 after a warm-up
    fall = dict(type="LinearLR", start_factor=1.0, end_factor=0.0, by_epoch=False)
    made = [dict(fall, begin=warm, end=steps)]
    rise = warm_up(1e-3, warm)
    return [rise, *made] if warm else made


param_scheduler = falling(20000)
train_cfg = staged(
    stage("further", 20000),
    stage("distill", 20000),
    stage("export", 0),
    stage(
        "finetune",
        10000,
        data=loader(
            dict(type="pld_mmdet.SeededDataset", dataset=dict(learned, flip=True)),
            32,
            train=True,
            workers=4,
        ),
        schedule=falling(10000, warm=500),
        optim=optimizer(
            "AdamW",
            1e-4,
            weight_decay=0.01,
            clip=1.0,
            paramwise_cfg=dict(bias_decay_mult=0.0),
            constructor="pld_mmdet.MergedGroups",
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval=1000))
find_unused_parameters = True  # each stage trains a part of the model
