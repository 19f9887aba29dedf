# FedLabel on digits: ten clients, Dirichlet 0.2, 6 % labels (65 in all), five clients a
# round, 80 rounds of which 30 learn from labels only. The experiment as first planned.
_base_ = ["../_base_/toy_runtime.py"]

model = dict(
    type="pld_mmdet.FedLabel",
    network=dict(type="pld_mmdet.MLP", sizes=(64, 100, 10)),
    beta=0.95,
    lambda0=1.0,
    h="variance",
    experts="both",
    warm_rounds=30,
)
collate = dict(type="default_collate")
train_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dict(
        type="pld_mmdet.Federation",
        dataset=dict(
            type="pld_mmdet.NoisyDigits", part="train", weak=0.02, strong=0.15
        ),
        num_clients=10,
        alpha=0.2,
        labelled=0.06,
        seed=0,
    ),
)
val_dataloader = dict(
    batch_size=360,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.Digits", part="val"),
)
test_dataloader = dict(
    batch_size=360,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=dict(type="pld_mmdet.Digits", part="test"),
)
val_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

labels_first = [
    dict(branch="labelled", steps=5),
    dict(branch="unlabelled", steps=5),
]
train_cfg = dict(
    type="pld_mmdet.FederatedLoop",
    max_iters=80,
    clients_per_round=5,
    local=labels_first,
    val_interval=20,
)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper", optimizer=dict(type="SGD", lr=0.1)
)
default_hooks = dict(logger=dict(interval=10))

# Each seed has its own partition and its own labels.
partition = "train_dataloader.dataset.seed={seed}"
experiment = dict(
    name="fedlabel",
    metric="accuracy",
    reported="global model of the last round",
    columns={"accuracy": ("test", "accuracy"), "NLL (x 100)": ("test", "nll")},
    rows=[
        dict(name="labels_only", title="FedAvg on the labels", options=[partition]),
        dict(name="local", title="Local pseudo-labels", options=[partition]),
        dict(name="fedlabel", title="FedLabel", options=[partition]),
        dict(name="global", title="Global pseudo-labels", options=[partition]),
        dict(
            name="all_labels", title="FedAvg on all labels (bound)", options=[partition]
        ),
    ],
)
walk = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "model.warm_rounds=0"]
