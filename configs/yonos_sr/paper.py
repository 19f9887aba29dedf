# YONOS-SR: 512 x 512 from 128 x 128 in one step, in Stable Diffusion's latents. No code
# of the authors exists; only the chain of scales is known: what is marked with ? is
# ours. x8: run again with model.scale=8, stage `teacher` of 0 steps, and load_from this
# run's checkpoint.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, optimizer, parts, stage, staged
from pld_mmdet.recipes.diffusion import unet

data_root = "data/photographs"
folder = "data/teachers/stable-diffusion"
how_to_get = dict(
    data="Photographs of at least 512 x 512 in data/photographs/<any folder>/.",
    teacher="A Stable Diffusion pipeline in diffusers' folders (vae, scheduler) in "
    "data/teachers/stable-diffusion; its vae is used, the U-Net begins at random.",
)
latents = unet(64, (8, 4), (320, 640, 1280, 1280), 2, attention=(0, 1, 2))
model = dict(
    type="pld_mmdet.YonosSR",
    process=dict(
        type="pld_mmdet.ScheduleProcess",
        predicts="v",
        zero_snr=True,  # one step begins where nothing of the image is left
        last=1.0,
    ),
    network=dict(type="pld_mmdet.Beside", network=latents),
    space=dict(type="pld_mmdet.LatentSpace", pretrained=folder, subfolder="vae"),
    critic=dict(type="pld_mmdet.PatchLogits", width=64),
    gan=0.1,  # ?
    scale=4,
)
train_dataloader = loader(
    dict(
        type="pld_mmdet.LabelledImages",
        data_root=data_root,
        size=512,
        area=(0.3, 1.0),
        mean=0.0,
        std=1.0,
    ),
    8,  # ?
    train=True,
    seeded=True,
    workers=4,
)
optim_wrapper = optimizer("AdamW", 5e-5, weight_decay=0.01)  # ?
adamw = dict(optimizer=optim_wrapper["optimizer"])
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("teacher", 100_000),  # ? x2
    stage("distill", 100_000),  # ? x4
    stage("decoder", 50_000, optim=parts(space=adamw, critic=adamw)),  # ?
)
default_hooks = dict(checkpoint=dict(interval=10_000))
