# BOOT on FFHQ 64 x 64, unconditional, without data: noise and a teacher are all it
# reads. No code of the authors exists and the paper names no optimizer, rate, batch or
# length: what is marked with ? is ours.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer
from pld_mmdet.recipes.diffusion import unet

folder = "data/teachers/ffhq64"
how_to_get = dict(
    teacher="A diffusers pipeline of FFHQ 64 x 64 (unet: a UNet2DModel; scheduler: any "
    "of linear, scaled_linear and cosine betas) in data/teachers/ffhq64."
)
model = dict(
    type="pld_mmdet.BOOT",
    process=dict(type="pld_mmdet.ScheduleProcess", folder=folder, last=0.99),
    network=unet(64, (3, 3), (128, 256, 256, 512), 2, attention=(1, 2)),
    teacher=dict(type="pld_mmdet.DiffusersUNet", pretrained=folder, subfolder="unet"),
    delta=0.02,  # ?
    beta=1.0,  # ?
    weight=1.0,  # ?
)
train_dataloader = loader(
    dict(type="pld_mmdet.NoiseStarts", shape=(3, 64, 64)), 32, train=True
)
train_cfg = iterations(500_000)  # ?
train_cfg.pop("val_interval")
optim_wrapper = optimizer("AdamW", 1e-4, weight_decay=0.01)  # ?
default_hooks = dict(checkpoint=dict(interval=10_000))
