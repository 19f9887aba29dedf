# FedLabel with image-like views, trained until labels alone stop improving: four
# clients, all in each round, Dirichlet 1, 10 % labels (27 a client), 240 rounds, the
# first 60 on labels only. How it was found: docs/weak_supervision.md.
_base_ = ["./toy.py"]
from pld_mmdet.recipes.tables import raw_pixels, row

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

_drawn = _base_.partition
here = dict(config="configs/fedlabel/views.py")
labels = dict(config="configs/fedlabel/views_labels_only.py")
experiment = dict(
    name="fedlabel_views",
    rows=[
        row("labels_only", "FedAvg on the labels", _drawn, **labels),
        row("local", "Local pseudo-labels", _drawn, "model.experts=local", **here),
        row("fedlabel", "FedLabel", _drawn),
        row("global", "Global pseudo-labels", _drawn, "model.experts=global", **here),
        row(
            "all_labels",
            "FedAvg on all labels (bound)",
            _drawn,
            "train_dataloader.dataset.labelled=1.0",
            **labels,
        ),
        raw_pixels(_drawn, of="all clients", part="labelled") | here,
    ],
)
