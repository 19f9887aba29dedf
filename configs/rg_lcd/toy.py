# RG-LCD on a ring of eight wide Gaussians with a class each; samples of a class are
# wanted a little further along the circle. The expert was fitted to 120 noisy scores:
# it can be over-optimised, and the true reward tells. One teacher a seed.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/gaussian_ring.py"]

from pld_mmdet.recipes import optimizer, parts, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

ring = dict(radius=1.2, std=0.25, labels=True)
model = dict(
    type="pld_mmdet.RGLCD",
    process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
    # eight classes and none
    network=dict(
        type="pld_mmdet.TimeMLP", width=96, depth=2, num_classes=9, guided=True
    ),
    expert=dict(type="pld_mmdet.RingExpert", radius=1.2, std=0.25),
    proxy=dict(type="pld_mmdet.PointReward", num_classes=8),
    logit_scale=5.0,
    num_classes=8,
    points=25,
    w=(0.0, 1.0),
    sample_levels=(999, 499),
)
train_dataloader = dict(batch_size=256, dataset=ring)
val_dataloader = dict(dataset=ring)
test_dataloader = dict(batch_size=4096, dataset=dict(size=4096, **ring))
val_evaluator = test_evaluator = [
    dict(type="pld_mmdet.MeanOf", names=("expert", "true")),
    dict(type="pld_mmdet.EnergyDistance"),
]
adam = dict(optimizer=dict(type="Adam", lr=1e-3))
optim_wrapper = parts(student=adam, proxy=adam)
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("teacher", 0, optim=optimizer("Adam", 2e-3)), stage("distill", 500)
)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.KeptSamplesHook")]
taught = dict(init="teacher", evaluate=dict(test=[]))
latent, direct = "model.reward=latent", "model.reward=direct"
experiment = table(
    "rg_lcd",
    row(
        "teacher",
        "The teacher, 50 calls",
        *lengths(1000, 0),
        evaluate=dict(test=["model.predict_on=teacher"]),
        trivial=True,
    ),
    row("lcd", "LCD", **taught),
    row("best_of_4", "... best of 4 by the expert", "model.best_of=4", **taught),
    row("direct", "RG-LCD, direct", direct, "model.beta=0.5", **taught),
    row("rg_lcd", "RG-LCD, latent proxy", latent, "model.beta=0.5", **taught),
    row("direct_2", "... direct, four times beta", direct, "model.beta=2", **taught),
    metric="true",
    percent=False,
    reported="student, two calls",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.points", reach=2.0),
    columns={
        "true reward": ("test", "true"),
        "expert reward": ("test", "expert"),
        "energy distance": ("test", "energy_distance"),
    },
)
walk = [
    *lengths(None, 2),
    "model.reward=latent",
    "model.expert.steps=2",
    "train_dataloader.batch_size=16",
    *in_parts("dataset.size=64", "train", "val", "test"),
]
