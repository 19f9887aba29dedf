# SP2OT on long-tailed digits: train and val part without labels, class sizes 130 to 13,
# frozen features = standardised pixels, a cosine head learns. 60 epochs of 532 images.
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import row, table

num_samples = 532
max_iters = 125
model = dict(
    type="pld_mmdet.SP2OT",
    num_clusters=10,
    feat_dim=64,
    num_samples=num_samples,
    lambda0=1000.0,
    top_k=10,
    rounds=10,
    max_iterations=200,
)
dataset = dict(type="pld_mmdet.LongTailDigits", imbalance=10.0, noise=0.2)
still = dict(type="pld_mmdet.LongTailDigits", imbalance=10.0, noise=0.0)
train_dataloader = loader(dataset, 256, train=True)
# Clustering is scored on the images that were clustered; no label was ever read.
test_dataloader = loader(still, 256)
test_evaluator = dict(type="pld_mmdet.ClusterMetric")
test_cfg = dict()

train_cfg = staged(stage("cluster", max_iters, work=test_dataloader))
optim_wrapper = optimizer("Adam", 2e-2)
experiment = table(
    "sp2ot",
    row("uniform", "Uniform transport (Sinkhorn)"),
    row("p2ot", "P2OT"),
    row("sp2ot", "SP2OT"),
    row("relaxed", "Relaxed transport, no curriculum"),
    row(
        "kmeans",
        "k-means on the pixels",
        baseline=dict(type="kmeans", clusters=10, key="view1"),
    ),
    row(
        "kmeans_unit",
        "k-means on pixels of unit length",
        baseline=dict(type="kmeans", clusters=10, key="view1", unit=True),
    ),
    reported="head of the last iteration",
    columns={
        "accuracy": ("test", "accuracy"),
        "class-balanced": ("test", "balanced"),
        "NMI": ("test", "nmi"),
    },
)
walk = ["train_cfg.stages.0.max_iters=2", "train_dataloader.batch_size=32"]
