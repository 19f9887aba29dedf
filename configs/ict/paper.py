# iCT on CIFAR-10, unconditional: 400 000 steps of 1024 images. No code of the authors
# exists, and the paper's appendix was not read; what is marked with ? are the values
# that public re-implementations agree on.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer
from pld_mmdet.recipes.diffusion import unet
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(10))
model = dict(
    type="pld_mmdet.ICT",
    # NCSN++ of CT's CIFAR-10 code is not in diffusers: its widths and attention, with
    # sinusoidal times. ? dropout 0.3
    network=unet(32, (3, 3), (128, 256, 256, 256), 4, attention=(1,), dropout=0.3),
    s0=10,
    s1=1280,
    tau=0.821,
)
# 8 processes x 128 images; values in [-1, 1]
half = (0.5, 0.5, 0.5)
train_dataloader = loader(
    cifar(10, "train", flip=True, mean=half, std=half),
    128,
    train=True,
    seeded=True,
    workers=4,
)
train_cfg = iterations(400_000)
train_cfg.pop("val_interval")
optim_wrapper = optimizer("RAdam", 1e-4)  # ?
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.99993),  # ?
]
default_hooks = dict(checkpoint=dict(interval=10_000))
