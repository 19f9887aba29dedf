# KRR-ST on CIFAR-100: 1000 pairs, 160 000 outer steps, a pool of ten networks. The
# numbers are those of the authors' code (db-Lee/selfsup_dd, 4beb4b1; rate 1e-4 from its
# README).
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]
from pld_mmdet.recipes import cosine, loader, optimizer, parts, stage, staged, warm_up
from pld_mmdet.recipes.images import cifar, cifar_files

target_checkpoint = "data/teachers/barlow_twins_resnet18_cifar100.pth"
how_to_get = dict(
    data=cifar_files(100),
    teacher="A ResNet-18 for 32 x 32 pixels, trained with Barlow Twins on CIFAR-100 "
    f"without labels, as an mmengine checkpoint of the target in {target_checkpoint}.",
)
# Their code at head crops and flips the real images of an outer step before both
# networks see them; its first upload (d9a422c) did not: set False for that.
augment_real = True
pool_size = 10
outer_steps = 160000
model = dict(
    type="pld_mmdet.KRRST",
    # torchvision's ResNet-18 with a 3 x 3 stem that pads by 2
    target=dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=100,
        pre_activation=False,
        stem_padding=2,
    ),
    target_checkpoint=target_checkpoint,
    network=dict(type="pld_mmdet.DistillConvNet", widths=(128, 256, 512)),
    image_shape=(3, 32, 32),
    target_dim=512,
    size=1000,
    pool_size=pool_size,
    inner_steps=1000,
    mean=(0.5071, 0.4865, 0.4409),  # of pld_mmdet.CIFAR
    std=(0.2673, 0.2564, 0.2762),
    batch_size=256,
    num_classes=100,
)
real = cifar(100, "train")
drawn = dict(train=True, seeded=True, workers=4)
train_dataloader = loader(dict(real, augment=augment_real), 1024, **drawn)
real_images = dict(loader(real, 1024, workers=4), persistent_workers=False)
labelled = loader(dict(real, augment=True), 256, **drawn)
test_dataloader = loader(cifar(100, "test"), 256, workers=2, persistent=False)

pool = [f"pool.{number}" for number in range(pool_size)]
inner = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3))
constant = [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
optim_wrapper = parts(
    synthetic=dict(optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.0)),
    **dict.fromkeys(pool, inner),
)
train_cfg = staged(
    stage(
        "distill",
        outer_steps,
        work=real_images,
        schedule=dict(
            synthetic=[warm_up(1.0, outer_steps, end_factor=1e-3)],
            **dict.fromkeys(pool, constant),
        ),
    ),
    stage(
        "pretrain",
        4000,  # 1000 epochs of four batches
        optim=optimizer("SGD", 0.1, momentum=0.9, weight_decay=1e-3),
    ),
    # The paper fine-tunes on other data sets: put yours here.
    stage(
        "finetune",
        10000,
        data=labelled,
        optim=optimizer("SGD", 0.01, momentum=0.9, weight_decay=5e-4),
        schedule=[cosine()],
    ),
)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.ExportDistilledHook")]
default_hooks = dict(checkpoint=dict(interval=4000))
model_wrapper_cfg = dict(type="PartsParallel")
