# YONOS-SR on 32 x 32 patches of photographs, x4, in pixel space. All rows of a seed
# start from one x2 model; the decoders are trained on one distilled x4 model.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cosine, loaders, optimizer, parts, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

net = dict(type="pld_mmdet.ConvDenoiser", channels=6, out_channels=3)
model = dict(
    type="pld_mmdet.YonosSR",
    process=dict(type="pld_mmdet.CosineProcess", predicts="x0"),
    network=dict(type="pld_mmdet.Beside", network=net),
    space=dict(type="pld_mmdet.PixelSpace"),
    critic=dict(type="pld_mmdet.PatchLogits"),
    gan=0.01,
    scale=4,
)
train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.PhotoPatches", size=32),
    16,
    train=dict(part="train", count=2000),
    val=dict(part="val", count=250),
    test=dict(part="test", count=250),
    eval_batch=250,
)
val_evaluator = test_evaluator = [
    dict(type="pld_mmdet.PSNR"),
    dict(type="pld_mmdet.PatchDistance"),
]
val_cfg = test_cfg = dict()
optim_wrapper = optimizer("Adam", 1e-3)
adam = dict(optimizer=optim_wrapper["optimizer"])
fall = [cosine()]
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("teacher", 0, schedule=fall),
    stage("distill", 0, schedule=fall),
    stage("decoder", 0, optim=parts(space=adam, critic=adam)),
)
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.KeptSamplesHook", count=16)]
own = dict(evaluate=dict(test=[]))
x2, x4, decoder = lengths(350), lengths(None, 350), lengths(None, None, 200)
direct = "model.target=truth"
begun = dict(init="one_step", **own)
experiment = table(
    "yonos_sr",
    row(
        "x2",
        "The x2 teacher, at x2",
        *x2,
        evaluate=dict(test=["model.predict_on=teacher"]),
    ),
    row(
        "truth",
        "x4 from ground truth",
        *x4,
        direct,
        "model.start=random",
        init="x2",
        **own,
    ),
    row("from_x2", "... from the x2 weights", *x4, direct, init="x2", **own),
    row(
        "one_step",
        "Scale distillation, one call",
        *x4,
        init="x2",
        evaluate=dict(test=[], many=["model.steps=25"]),
    ),
    row("l1", "... and a decoder (L1)", *decoder, "model.gan=0", **begun),
    row("yonos_sr", "... and a decoder (L1 + GAN)", *decoder, **begun),
    row("bicubic", "Bicubic", baseline=dict(type="bicubic", scale=4)),
    metric="patch_distance",
    percent=False,
    lower_is_better=True,
    reported="x4",
    pictures=dict(draw="pld_mmdet.diffusion.scores.pictures.images"),
    columns={
        "patches": ("test", "patch_distance"),
        "PSNR": ("test", "psnr"),
        "patches, 25 calls": ("many", "patch_distance"),
    },
)
walk = [
    *lengths(None, 1, 1),
    "train_dataloader.batch_size=4",
    *in_parts("dataset.count=16", "train", "val", "test"),
]
