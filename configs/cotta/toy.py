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
        dict(name="source", title="Source network"),
        dict(
            name="tent",
            title="TENT, lr 1e-3",
            init="source",
            online="test",
            evaluate={},
        ),
        dict(name="cotta", title="CoTTA", init="source", online="test", evaluate={}),
        dict(
            name="bn_adapt",
            title="BN statistics of the batch",
            init="source",
            online="test",
            evaluate={},
        ),
        dict(
            name="tent_high",
            title="TENT, lr 1e-2",
            init="source",
            online="test",
            evaluate={},
        ),
        dict(
            name="no_learning",
            title="CoTTA at rate 0: nothing learns",
            options=["optim_wrapper.optimizer.lr=0"],
            init="source",
            online="test",
            evaluate={},
            trivial=True,
        ),
        dict(
            name="no_views",
            title="CoTTA without views",
            options=["model.views=0"],
            init="source",
            online="test",
            evaluate={},
        ),
        dict(
            name="no_restore",
            title="CoTTA without restore",
            options=["model.p=0"],
            init="source",
            online="test",
            evaluate={},
        ),
    ],
)
