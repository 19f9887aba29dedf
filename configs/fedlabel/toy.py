# FedLabel on digits: ten clients, Dirichlet 0.2, 6 % labels (64 in all), five clients a
# round, 80 rounds of which 30 learn from labels only. The experiment as first planned.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, optimizer
from pld_mmdet.recipes.tables import row, table

model = dict(
    type="pld_mmdet.FedLabel",
    network=dict(type="pld_mmdet.MLP", sizes=(64, 100, 10)),
    beta=0.95,
    lambda0=1.0,
    h="variance",
    experts="both",
    warm_rounds=30,
)
train_dataloader = loader(
    dict(
        type="pld_mmdet.Federation",
        dataset=dict(
            type="pld_mmdet.NoisyDigits", part="train", weak=0.02, strong=0.15
        ),
        num_clients=10,
        alpha=0.2,
        labelled=0.06,
        seed=0,
    ),
    20,
    train=True,
)
val_dataloader = loader(dict(type="pld_mmdet.Digits", part="val"), 360)
test_dataloader = loader(dict(type="pld_mmdet.Digits", part="test"), 360)

labels_first = [dict(branch="labelled", steps=5), dict(branch="unlabelled", steps=5)]
train_cfg = dict(
    type="pld_mmdet.FederatedLoop",
    max_iters=80,
    clients_per_round=5,
    local=labels_first,
    val_interval=20,
)
optim_wrapper = optimizer("SGD", 0.1)
default_hooks = dict(logger=dict(interval=10))

# Each seed has its own partition and its own labels.
partition = "train_dataloader.dataset.seed={seed}"
experiment = table(
    "fedlabel",
    row("labels_only", "FedAvg on the labels", partition),
    row("local", "Local pseudo-labels", partition),
    row("fedlabel", "FedLabel", partition),
    row("global", "Global pseudo-labels", partition),
    row("all_labels", "FedAvg on all labels (bound)", partition),
    reported="global model of the last round",
    columns={"accuracy": ("test", "accuracy"), "NLL (x 100)": ("test", "nll")},
)
walk = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "model.warm_rounds=0"]
