# FedLabel on CIFAR-10: ResNet-34, 100 clients, Dirichlet 0.1, ten clients a round, 10 %
# labels; steps, rate and batch of the first re-implementation (the authors' are not
# known). Group norm, because batch statistics of such clients do not average.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]
from pld_mmdet.recipes import loader, optimizer

how_to_get = dict(
    data="download CIFAR-10's binary version from www.cs.toronto.edu/~kriz/cifar.html "
    "and unpack it as data/cifar-10-batches-bin"
)
root = "data/cifar-10-batches-bin"
mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
model = dict(
    type="pld_mmdet.FedLabel",
    network=dict(type="pld_mmdet.GroupNormResNet", blocks=(3, 4, 6, 3), num_classes=10),
    beta=0.95,
    lambda0=1.0,
    h="variance",
)
images = dict(type="pld_mmdet.CIFARViews", data_root=root, mean=mean, std=std)
train_dataloader = loader(
    dict(
        type="pld_mmdet.Federation",
        dataset=dict(
            type="pld_mmdet.SeededDataset",
            dataset=dict(images, part="train", pad=4, strong=dict()),
        ),
        num_clients=100,
        alpha=0.1,
        labelled=0.1,
        seed=0,
    ),
    20,
    train=True,
)
test_dataloader = loader(
    dict(images, part="test", augment=False), 500, workers=2, persistent=False
)

train_cfg = dict(
    type="pld_mmdet.FederatedLoop",
    max_iters=40,
    clients_per_round=10,
    local=[dict(branch="labelled", steps=5), dict(branch="unlabelled", steps=5)],
)
optim_wrapper = optimizer("SGD", 0.05)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=5))
