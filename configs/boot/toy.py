# BOOT on a ring of eight Gaussians of radius 1.4. All rows of a seed have one teacher,
# which the first row trains; its rows of numbers are DDIM steps.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/gaussian_ring.py"]

from pld_mmdet.recipes import cosine, optimizer, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

model = dict(
    type="pld_mmdet.BOOT",
    process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
    network=dict(type="pld_mmdet.TimeMLP", dim=2, width=128, depth=3),
    delta=0.02,
    beta=1.0,
    weight=0.05,
)
ring = dict(radius=1.4, std=0.07)
train_dataloader = dict(batch_size=256, dataset=ring)
val_dataloader = dict(dataset=ring)
test_dataloader = dict(batch_size=4096, dataset=dict(size=4096, **ring))
steps = 900
train_cfg = staged(
    stage("teacher", 0, optim=optimizer("Adam", 2e-3)),
    stage("distill", steps),
    val_interval=300,
)
optim_wrapper = optimizer("Adam", 1e-3)
param_scheduler = [cosine()]
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.KeptSamplesHook"),
    dict(type="pld_mmdet.MetricCurveHook", metric="energy_distance"),
]
taught = dict(init="teacher", online="curve", evaluate=dict(test=[]))
marks = {
    label: ["model.predict_on=teacher", f"model.teacher_steps={n}"]
    for label, n in (("test", 1), ("five", 5), ("fifty", 50))
}
loose = ["model.beta=0", "model.start=random"]
experiment = table(
    "boot",
    row(
        "teacher",
        "The teacher, DDIM",
        *lengths(1200, 0),
        evaluate=marks,
        trivial=True,
    ),
    # as many calls of the teacher as BOOT's, two a step, 20 a pair
    row(
        "regression",
        "Regression on stored ends",
        f"model.pairs={steps * 256 * 2 // 20}",
        **taught,
    ),
    row("boot", "BOOT", **taught),
    row("no_anchor", "... no anchor, random start", *loose, **taught),
    metric="energy_distance",
    percent=False,
    lower_is_better=True,
    reported="one call",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.points", reach=2.0),
    columns={
        "one call": ("test", "energy_distance"),
        "mean of the run (val)": ("curve", "energy_distance_mean"),
        "5 calls": ("five", "energy_distance"),
        "50 calls": ("fifty", "energy_distance"),
    },
)
walk = [
    *lengths(0, 2),
    "train_dataloader.batch_size=16",
    *in_parts("dataset.size=64", "train", "val", "test"),
]
