# SLA+SD on CIFAR-100, ResNet-32, quarter turns (hankook/SLA, commit bc5d9cd): 80000
# steps of 128 images, SGD 0.1 divided by 10 at 40000 and 60000.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import drops, iterations, loaders, optimizer
from pld_mmdet.recipes.images import cifar, cifar_files, thin_resnet

how_to_get = dict(data=cifar_files(100))
model = dict(
    type="pld_mmdet.SLASD", network=thin_resnet(5, 100), num_classes=100, tau=1.0
)
# they normalise to (-1, 1)
train_dataloader, _, test_dataloader = loaders(
    cifar(100, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    128,
    train=dict(part="train", augment=True),
    test=dict(part="test"),
    eval_batch=256,
    seeded=True,
    workers=4,
)
train_cfg = iterations(80000)
optim_wrapper = optimizer("SGD", 0.1, momentum=0.9, weight_decay=1e-4)
param_scheduler = drops(40000, 60000)
walk = ["model.network.blocks=(1,1,1)"]
walk_data = {"data/cifar-100-binary": "cifar100"}
