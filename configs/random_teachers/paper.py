# Random teachers on CIFAR-10: ResNet-18 with DINO's head of 65536 outputs, 100 epochs
# of 256 images as they are, Adam 1e-3 (safelix/dinopl, commit cd39e78,
# configs/cifar10_distillation_v2.json). Their probe is AdamW for ten epochs on the
# training part; ours is the cross-validated one on the test part.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cifar, iterations, loader, optimizer

data_root = "data/cifar-10-batches-bin"
how_to_get = dict(data=cifar(10))
model = dict(
    type="pld_mmdet.RandomTeachers",
    student=dict(
        type="pld_mmdet.HeadedEncoder",
        encoder=dict(type="pld_mmdet.CIFARResNet", pre_activation=False),
    ),
)
cifar = dict(type="pld_mmdet.CIFAR", data_root=data_root, classes=10)
train_dataloader = loader(dict(cifar, part="train"), 256, train=True, workers=4)
test_dataloader = loader(dict(cifar, part="test"), 256)
test_evaluator = dict(type="pld_mmdet.LinearProbeMetric")
test_cfg = dict()
train_cfg = iterations(100 * 50000 // 256)
optim_wrapper = optimizer("Adam", 1e-3)
