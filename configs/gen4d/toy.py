# 4DGen on a generated object of 40 Gaussians, one of whose arms turns: 24 x 24 pixels,
# even frames of a clean video and of three views with an error of their own in every
# frame. The scene's number is the run's seed.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.diffusion import unet
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

scene = dict(type="pld_mmdet.MovingObject", part="train")
model = dict(
    type="pld_mmdet.Gen4D",
    field=dict(
        type="pld_mmdet.HexPlaneField",
        channels=8,
        resolution=8,
        times=8,
        levels=(1, 2),
        width=64,
    ),
    count=40,
    capacity=60,
    ball=0.6,
    scale=0.08,
    size=24,
    perceptual=0.0,
    front=3.0,
    pseudo=1.0,
    chamfer=0.3,
    smooth=0.3,
    tv=0.03,
    sds=3e-4,
    rate=1 / 4,
    densify_every=20,
    densify_from=1e-2,
)
train_dataloader = loader(scene, 4, train=True)
first = loader(dict(scene, first_only=True), 4, train=True)
objects = loader(dict(type="pld_mmdet.OtherObjects"), 8, train=True)
val_dataloader = loader(dict(scene, part="val"), 64)
test_dataloader = loader(dict(scene, part="test"), 64)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.PSNR", groups=("space", "between")
)
val_cfg = test_cfg = dict()
# of the order of the released code's, 10 to 60 times as large for 1 / 10 of its steps
optim_wrapper = optimizer(
    "Adam",
    0.005,
    paramwise_cfg=dict(
        custom_keys={"opacities": dict(lr_mult=10), "colours": dict(lr_mult=10)}
    ),
)
fall = [dict(type="ExponentialLR", gamma=0.99, by_epoch=False)]
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("prior", 0, data=objects, optim=optimizer("Adam", 2e-3)),
    stage("static", 70, data=first),
    stage("coarse", 130),
    stage("fine", 150, schedule=fall),
)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.KeptSamplesHook")]
_views = dict(norm_num_groups=8, class_embed_type="identity")
_unet = unet(24, (6, 3), (16, 32), 1, attention=(), **_views)
view_prior = dict(type="pld_mmdet.ViewPrior", unet=_unet, width=64)
seeded = in_parts("dataset.scene={seed}", "train", "val", "test")
seeded.append("train_cfg.stages.1.dataloader.dataset.scene={seed}")
raw = ["model.chamfer=0", "model.smooth=0", "model.tv=0"]
alone = ["train_dataloader.dataset.views=video", "model.pseudo=0"]
alone.append("train_cfg.stages.1.dataloader.dataset.views=video")
own = dict(test=[])
experiment = table(
    "gen4d",
    row("video", "The video alone", *seeded, *raw, *alone, evaluate=own),
    row("pseudo", "... and raw pseudo views", *seeded, *raw, evaluate=own),
    row("gen4d", "4DGen without SDS", *seeded, evaluate=own),
    row("sds", "4DGen", *seeded, evaluate=own),
    row(
        "nearest",
        "The picture of the nearest view and time",
        *seeded,
        baseline="nearest_picture",
    ),
    metric="psnr",
    percent=False,
    reported="the moving Gaussians",
    # view 0 and a view that nobody trained on, both at times 1/8 and 5/8
    pictures=dict(
        draw="pld_mmdet.diffusion.scores.pictures.images",
        which=(1, 13, 5, 17),
        columns=2,
    ),
    columns={
        "held out, all": ("test", "psnr"),
        "new view": ("test", "psnr_space"),
        "time in between": ("test", "psnr_between"),
    },
)
walk = lengths(None, 1, 1, 1)
