# CV-DD on CIFAR-100, ten images a class, ResNet-18 (Jiacheng8/CV-DD, 24097e9): all ten
# pairs of five networks, 300 epochs of stored labels in batches of 16. The networks
# come with weights (`load_from`, entries `teachers.0.*` ...).
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(100))
colours = dict(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
whole = cifar(100, "train", **colours)
resnet = dict(type="pld_mmdet.CIFARResNet", pre_activation=False)
model = dict(
    type="pld_mmdet.CVDD",
    student=resnet,
    teachers=[
        resnet,
        dict(type="pld_mmdet.SmallResNet50"),
        dict(type="pld_mmdet.SmallShuffleNetV2"),
        dict(type="pld_mmdet.SmallMobileNetV2"),
        dict(type="pld_mmdet.SmallDenseNet121"),
    ],
    image_shape=(3, 32, 32),
    num_classes=100,
    priors=(64, 60.6, 51.6, 59.4, 56.4),
    ipc=10,
    batch=16,
    **colours,
)
load_from = "data/cv_dd_networks.pth"
fine_tune = True  # that file has the networks only
steps = 300 * 63  # epochs of 1000 images in batches of 16, the last one of 8
real = loader(whole, 256, workers=2)
stored = loader(
    dict(type="pld_mmdet.StoredViews", file="{folder}/distilled"),
    1,  # of 16 images, as they were labelled
    train=True,
    workers=2,
)
stored["sampler"]["shuffle"] = False
train_dataloader = loader(whole, 1, train=True)  # not looked at
test_dataloader = loader(cifar(100, "test", **colours), 256, workers=2)
images = optimizer("Adam", 0.25, betas=(0.5, 0.9))
train_cfg = staged(
    stage("recover", 10 * 4000, work=real, optim=images, schedule=cosine()),
    stage("student", steps, data=stored, work=real),
)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.01)
# eta = 2: half of the rate is left at the end
param_scheduler = cosine(T_max=2 * steps)
find_unused_parameters = True
