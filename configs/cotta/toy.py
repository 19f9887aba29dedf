# CoTTA on a stream of corrupted digits: 360 test images, five synthetic corruptions,
# six rounds, 180 batches of 60. The paper's CIFAR-10 numbers, with 8 views for 32, no
# mirror images, which are no digits, and p_th 0.72, the code's value for CIFAR-100: on
# the val stream it parts what views help (noise, dropout) from what they do not.
_base_ = ["./tent.py"]
from pld_mmdet.recipes.tables import raw_pixels, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.CoTTA",
    network=_base_.network,
    alpha=0.999,
    p=0.01,
    p_th=0.72,
    views=8,
    augment=dict(flip=0.0),
)
online = dict(init="source", online="test", evaluate={})
experiment = table(
    "cotta",
    row("source", "Source network"),
    row("tent", "TENT, lr 1e-3", **online),
    row("cotta", "CoTTA", **online),
    row("bn_adapt", "BN statistics of the batch", **online),
    row("tent_high", "TENT, lr 1e-2", **online),
    row(
        "no_learning",
        "CoTTA at rate 0: nothing learns",
        "optim_wrapper.optimizer.lr=0",
        **online,
        trivial=True,
    ),
    row("no_views", "CoTTA without views", "model.views=0", **online),
    row("no_restore", "CoTTA without restore", "model.p=0", **online),
    raw_pixels(
        "train_dataloader.dataset.dataset.pad=0",
        of="clean digits",
        train="train_dataloader.dataset.dataset",
    )
    | dict(config="configs/cotta/source.py"),
    reported="network, online: each batch is answered before it is learnt from",
    columns={
        "stream": ("test", "accuracy"),
        "first round": ("test", "accuracy_first"),
        "last round": ("test", "accuracy_last"),
    },
)
