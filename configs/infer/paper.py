# INFER on CIFAR-100, ten images a class (9 real, 36 compensated), ResNet-18, static
# labels (zhangxin-xd/UFC, 83d19f8, sh/ufc_cifar.sh). The four networks come with
# weights (`load_from`, entries `teachers.0.*` ...), of 200 epochs there.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(100))
colours = dict(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
whole = cifar(100, "train", **colours)
resnet = dict(type="pld_mmdet.CIFARResNet", pre_activation=False)
model = dict(
    type="pld_mmdet.INFER",
    student=resnet,
    teachers=[
        resnet,
        dict(type="pld_mmdet.SmallMobileNetV2"),
        dict(type="pld_mmdet.SmallEfficientNetB0"),
        dict(type="pld_mmdet.SmallShuffleNet"),
    ],
    image_shape=(3, 32, 32),
    num_classes=100,
    ipc=10,
    **colours,
)
load_from = "data/infer_networks.pth"
fine_tune = True  # that file has the networks only
compensated = 9 * 4  # sets of one image a class, once for each network
length = 400 * 71  # epochs of 4500 images in batches of 64
real = loader(whole, 256, workers=2)
train_dataloader = loader(whole, 1, train=True)  # not looked at
test_dataloader = loader(cifar(100, "test", **colours), 256, workers=2)
images = optimizer("Adam", 0.25, betas=(0.5, 0.9))
stored = dict(type="pld_mmdet.DistilledPairs", file="{folder}/distilled")
train_cfg = staged(
    stage("distill", 1000 * compensated, work=real, optim=images),
    stage("student", length, data=loader(stored, 64, train=True), work=real),
)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.01)
param_scheduler = cosine()
find_unused_parameters = True
