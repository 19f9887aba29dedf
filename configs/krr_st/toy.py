# KRR-ST on scikit-learn's digits: 1077 unlabelled images become 50 pairs; a student is
# pre-trained on them and fine-tuned on two labels a class. A copy of it is tuned on
# each of eight draws of these labels, the same in all runs, and the mean is the score:
# one draw moves it by points.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/digits.py"]
from pld_mmdet.recipes import cosine, loader, optimizer, parts, stage, staged, warm_up
from pld_mmdet.recipes.tables import lengths, raw_pixels, row, table

pool_size = 3
labelled = 2
subsets = 8
model = dict(
    type="pld_mmdet.KRRST",
    target=dict(
        type="pld_mmdet.DistillConvNet",
        image_shape=(1, 8, 8),
        widths=(32, 64, 64),
        outputs=1,
        standardise=True,  # else regression of its small features teaches little
    ),
    network=dict(type="pld_mmdet.DistillConvNet", widths=(16, 32)),
    image_shape=(1, 8, 8),
    target_dim=64,
    size=50,
    pool_size=pool_size,
    inner_steps=100,
    subsets=subsets,
)

train_dataloader = dict(batch_size=128)
real_images = loader(dict(type="pld_mmdet.Digits", part="train"), 256)
optim_wrapper = optimizer("Adam", 1e-3)
pool = [f"pool.{number}" for number in range(pool_size)]
inner = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3))
distill_iters = 400

target = stage("target", 300)
distill = stage(
    "distill",
    distill_iters,
    work=real_images,
    optim=parts(
        synthetic=dict(optimizer=dict(type="AdamW", lr=1e-2)),
        **dict.fromkeys(pool, inner),
    ),
    schedule=dict(
        synthetic=[warm_up(1.0, distill_iters, end_factor=1e-3)],
        **{
            part: [dict(type="ConstantLR", factor=1.0, by_epoch=False)] for part in pool
        },
    ),
)
pretrain = stage(
    "pretrain",
    200,
    work=real_images,
    optim=optimizer("SGD", 0.1, momentum=0.9, weight_decay=1e-3),
)
finetune = stage(
    "finetune",
    200,
    data=loader(
        dict(
            type="pld_mmdet.LabelSubsets",
            dataset=dict(type="pld_mmdet.Digits", part="train"),
            labelled=labelled,
            subsets=subsets,
        ),
        subsets * labelled * 10,  # all of them
        train=True,
    ),
    optim=optimizer("SGD", 0.01, momentum=0.9, weight_decay=5e-4),
    schedule=[cosine()],
)
train_cfg = staged(target, distill, pretrain, finetune)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.ExportDistilledHook")]
default_hooks = dict(checkpoint=dict(interval=500))
model_wrapper_cfg = dict(type="PartsParallel")

experiment = table(
    "krr_st",
    row("plain", "No pre-training"),
    row("random_pairs", "Pre-trained on 50 random real images and their targets"),
    row("krr_st", "KRR-ST, 50 pairs"),
    raw_pixels(c=None, train="train_cfg.stages.3.dataloader.dataset"),
    reported="fine-tuned student, 2 labels a class, mean of 8 draws of them",
    columns={"test": ("test", "accuracy")},
)
walk = [
    *lengths(0, 2, 1, 1),
    "train_dataloader.batch_size=8",
    "model.inner_steps=2",
]
