# DMD2 on a ring of eight Gaussians (generated). The teacher is trained too short on
# purpose: only then is there something that the GAN's real data can add.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/gaussian_ring.py"]
from pld_mmdet.recipes import cosine, optimizer, parts, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

teacher_iters, distill_iters = 300, 1500

mlp = dict(type="pld_mmdet.TimeMLP", dim=2, width=128, depth=3)
model = dict(
    type="pld_mmdet.DMD2",
    process=dict(type="pld_mmdet.EDMProcess"),
    denoiser=mlp,
    head=dict(type="pld_mmdet.MLPHead", sizes=(128, 128)),
    bottleneck="features",
    generator_interval=5,
    gan_weight=1.0,  # of 0.3 and 1.0 by the val part, seed 0
    critic_gan_weight=1e-2,
)

train_dataloader = dict(batch_size=256)

# The teacher's rate is higher because its training is short.
student_optimizer = dict(type="AdamW", lr=5e-4, weight_decay=0.01)
_part = dict(optimizer=student_optimizer, clip_grad=dict(max_norm=10.0))
optim_wrapper = parts(generator=_part, critic=_part)
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("teacher", teacher_iters, optim=optimizer("AdamW", 1e-3, weight_decay=0.01)),
    stage("distill", distill_iters, schedule=[cosine()]),
    val_interval=300,
)
custom_hooks = [
    dict(type="pld_mmdet.IterationSeedHook"),
    dict(type="pld_mmdet.RunRecordHook"),
    # From the second evaluation on: the first is the teacher in one step.
    dict(
        type="pld_mmdet.MetricCurveHook",
        metric="energy_distance",
        begin=2 * teacher_iters,
    ),
    dict(type="pld_mmdet.KeptSamplesHook"),
]
default_hooks = dict(checkpoint=dict(interval=900), logger=dict(interval=100))

experiment = table(
    "dmd2",
    row(
        "plain",
        "Distribution matching (one rate, no GAN)",
        config="configs/dmd2/dmd.py",
        online="curve",
    ),
    row("two_rates", "Two rates (1 : 5), no GAN", online="curve"),
    row(
        "dmd2",
        "DMD2",
        evaluate=dict(test=None, teacher="configs/dmd2/teacher.py"),
        online="curve",
    ),
    row("gaussian", "One Gaussian", baseline="gaussian"),
    metric="energy_distance",
    percent=False,
    lower_is_better=True,
    reported="generator, one step",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.points"),
    columns={
        "test": ("test", "energy_distance"),
        "worst of the run (val)": ("curve", "energy_distance_worst"),
        "teacher, 40 steps": ("teacher", "energy_distance"),
    },
)
walk = [
    *lengths(0, 2),
    "train_dataloader.batch_size=16",
    *in_parts("dataset.size=64", "train", "val", "test"),
]
