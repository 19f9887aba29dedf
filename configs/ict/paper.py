# iCT on CIFAR-10, unconditional: 400 000 steps of 1024 images. No code of the authors
# exists, and the paper's appendix was not read; what is marked with ? are the values
# that public re-implementations agree on.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cifar, iterations, loader, optimizer

data_root = "data/cifar-10-batches-bin"
how_to_get = dict(data=cifar(10))
model = dict(
    type="pld_mmdet.ICT",
    # NCSN++ of CT's CIFAR-10 code is not in diffusers: its widths and attention, with
    # sinusoidal times. ? dropout 0.3
    network=dict(
        type="pld_mmdet.DiffusersUNet",
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=4,
        down_block_types=(
            "DownBlock2D",
            "AttnDownBlock2D",
            "DownBlock2D",
            "DownBlock2D",
        ),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        dropout=0.3,
    ),
    s0=10,
    s1=1280,
    tau=0.821,
)
# 8 processes x 128 images; values in [-1, 1]
train_dataloader = loader(
    dict(
        type="pld_mmdet.CIFAR",
        data_root=data_root,
        part="train",
        classes=10,
        augment=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    128,
    train=True,
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
