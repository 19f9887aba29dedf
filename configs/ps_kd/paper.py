# PS-KD on CIFAR-100 with PreAct ResNet-18, the released settings (300 epochs, SGD with
# Nesterov momentum, rate 0.1 divided by 10 at 150 and 225, batches of 128 in all).
_base_ = "../bd_kd/paper.py"

model = dict(
    _delete_=True,
    type="pld_mmdet.PSKD",
    # their PreAct ResNet has the first pair of batch norm and ReLU after the stem and
    # none before the pooling, and torch's own initial weights
    network=dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=100,
        stem_norm=True,
        last_norm=False,
        init="torch",
    ),
    num_samples=50000,
    num_classes=100,
    alpha_T=0.8,
)
# they normalise CIFAR-100 by CIFAR-10's numbers
_colours = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
train_dataloader = dict(batch_size=128, dataset=dict(dataset=_colours))
test_dataloader = dict(dataset=_colours)
test_evaluator = dict(bins=10)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
param_scheduler = dict(milestones=[150, 225])
walk = ["model.network.widths=(8,8,8,8)", "model.num_samples=8"]
