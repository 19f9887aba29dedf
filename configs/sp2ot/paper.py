# SP2OT on CIFAR100-LT as published: DINO ViT-B/16 whose last block learns, 512 images a
# batch, a bank of ten batches with the current one, Adam 5e-4 with a cosine (theirs
# moves once an epoch, this one with each iteration), 50 epochs.
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import cosine, images, loader, optimizer, stage, staged

how_to_get = dict(
    data="download CIFAR-100's binary version from www.cs.toronto.edu/~kriz/cifar.html "
    "and unpack it as data/cifar-100-binary",
    checkpoint="huggingface-cli download facebook/dino-vitb16",
)
num_samples = 10847  # 500 to 5 images of 100 classes
batch_size = 512
epoch = 21  # iterations: the last, smaller batch is dropped
max_iters = 50 * epoch
model = dict(
    type="pld_mmdet.SP2OT",
    backbone=dict(
        type="pld_mmdet.ViTBackbone", weights="facebook/dino-vitb16", trainable_blocks=1
    ),
    num_clusters=100,
    feat_dim=768,
    num_samples=num_samples,
    rho_start=0.1,
    rho_end=1.0,
    lambda0=1000.0,
    epsilon=0.1,
    gamma=1.0,
    top_k=20,
    bank=9 * batch_size,
    prefill=True,
)
dataset = dict(
    type="pld_mmdet.CIFARViews",
    data_root="data/cifar-100-binary",
    part="train",
    classes=100,
    imbalance=100.0,
    size=224,
    resize=256,
    views=2,
    **images.IMAGENET_COLOURS,
)
train_dataloader = loader(dataset, batch_size, train=True, seeded=True, workers=8)
still = dict(dataset, augment=False)
test_dataloader = loader(still, batch_size, workers=8, persistent=False)
test_evaluator = dict(type="pld_mmdet.ClusterMetric")
test_cfg = dict()

train_cfg = staged(stage("cluster", max_iters, work=test_dataloader))
optim_wrapper = optimizer("Adam", 5e-4, weight_decay=0.0)
param_scheduler = [cosine(T_max=max_iters, eta_min_ratio=1e-3)]
