# CoTTA on a stream of corrupted digits: 360 test images, five synthetic corruptions,
# six rounds, 180 batches of 60. The paper's CIFAR-10 numbers, with 8 views for 32, no
# mirror images, which are no digits, and p_th 0.72, the code's value for CIFAR-100: on
# the val stream it parts what views help (noise, dropout) from what they do not.
_base_ = ["./tent.py"]

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
experiment = dict(
    name="cotta",
    metric="accuracy",
    reported="network, online: each batch is answered before it is learnt from",
    columns={
        "stream": ("test", "accuracy"),
        "first round": ("test", "accuracy_first"),
        "last round": ("test", "accuracy_last"),
    },
    rows=[
        dict(
            name="source",
            title="Source network",
            config="configs/cotta/source.py",
            seconds=10,
        ),
        dict(
            name="tent",
            title="TENT, lr 1e-3",
            config="configs/cotta/tent.py",
            init="source",
            online="test",
            evaluate={},
            seconds=10,
        ),
        dict(
            name="cotta",
            title="CoTTA",
            config="configs/cotta/toy.py",
            init="source",
            online="test",
            evaluate={},
            seconds=25,
        ),
        dict(
            name="bn_adapt",
            title="BN statistics of the batch",
            config="configs/cotta/bn_adapt.py",
            init="source",
            online="test",
            evaluate={},
            seconds=10,
        ),
        dict(
            name="tent_high",
            title="TENT, lr 1e-2",
            config="configs/cotta/tent_high.py",
            init="source",
            online="test",
            evaluate={},
            seconds=10,
        ),
        dict(
            name="no_views",
            title="CoTTA without views",
            config="configs/cotta/toy.py",
            options=["model.views=0"],
            init="source",
            online="test",
            evaluate={},
            seconds=10,
        ),
        dict(
            name="no_restore",
            title="CoTTA without restore",
            config="configs/cotta/toy.py",
            options=["model.p=0"],
            init="source",
            online="test",
            evaluate={},
            seconds=25,
        ),
    ],
)
