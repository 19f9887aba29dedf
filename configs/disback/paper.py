# DisBack on ImageNet 64 x 64, class-conditional, one step, without data: the paper's
# EDM setting. No script of it is released (the repository has SDXL's), and the paper's
# body was not read: rates, lengths and batch are as second-hand notes have them (?).
# The teacher and its networks are DMD2's.
# tools/dist_train.sh configs/disback/paper.py 4
_base_ = "../dmd2/paper.py"

from pld_mmdet.recipes import loader, stage, staged

how_to_get = dict(_delete_=True, teacher=_base_.how_to_get.teacher)
model = dict(
    _delete_=True,
    type="pld_mmdet.DisBack",
    process=dict(type="pld_mmdet.EDMProcess"),
    denoiser=_base_.unet,
    teacher=_base_.model.teacher,
    num_classes=1000,
    snapshots=(50, 100, 150, 200),
    node_steps=1000,
    generator_interval=1,
    gan_weight=0.0,
    level_range=(0.02, 0.98),
)
train_dataloader = dict(
    _delete_=True,
    **loader(
        dict(type="pld_mmdet.NoiseStarts", shape=(3, 64, 64), num_classes=1000),
        8,  # ?
        train=True,
    ),
)
part = dict(
    _delete_=True,
    optimizer=dict(type="Adam", lr=1e-5),  # ?
    clip_grad=dict(max_norm=10.0),
)
optim_wrapper = dict(generator=part, critic=part)
param_scheduler = None
train_cfg = staged(
    stage("degrade", 200),  # ?
    stage("distill", 50_000),  # ?
    _delete_=True,
)
