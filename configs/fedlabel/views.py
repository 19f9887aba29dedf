# FedLabel with image-like views, trained until labels alone stop improving: four
# clients, all in each round, Dirichlet 1, 10 % labels (27 a client), 240 rounds, the
# first 60 on labels only. How it was found: docs/weak_supervision.md.
_base_ = ["./toy.py"]

model = dict(warm_rounds=60)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(_delete_=True, type="pld_mmdet.DigitViews", part="train"),
        num_clients=4,
        alpha=1.0,
        labelled=0.1,
    )
)
train_cfg = dict(max_iters=240, clients_per_round=4, val_interval=60)
optim_wrapper = dict(optimizer=dict(lr=0.3))

experiment = dict(
    name="fedlabel_views",
    rows=[
        dict(
            name="labels_only",
            title="FedAvg on the labels",
            config="configs/fedlabel/views_labels_only.py",
            options=[_base_.partition],
        ),
        dict(
            name="local",
            title="Local pseudo-labels",
            config="configs/fedlabel/views.py",
            options=[_base_.partition, "model.experts=local"],
        ),
        dict(name="fedlabel", title="FedLabel", options=[_base_.partition]),
        dict(
            name="global",
            title="Global pseudo-labels",
            config="configs/fedlabel/views.py",
            options=[_base_.partition, "model.experts=global"],
        ),
        dict(
            name="all_labels",
            title="FedAvg on all labels (bound)",
            config="configs/fedlabel/views_labels_only.py",
            options=[_base_.partition, "train_dataloader.dataset.labelled=1.0"],
        ),
    ],
)
