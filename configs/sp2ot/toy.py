# SP2OT on long-tailed digits: train and val part without labels, class sizes 130 to 13,
# frozen features = standardised pixels, a cosine head learns. 60 epochs of 532 images.
_base_ = ["../_base_/toy_runtime.py"]

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
collate = dict(type="default_collate")
dataset = dict(type="pld_mmdet.LongTailDigits", imbalance=10.0, noise=0.2)
still = dict(type="pld_mmdet.LongTailDigits", imbalance=10.0, noise=0.0)
train_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=collate,
    dataset=dataset,
)
# Clustering is scored on the images that were clustered; no label was ever read.
test_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=collate,
    dataset=still,
)
test_evaluator = dict(type="pld_mmdet.ClusterMetric")
test_cfg = dict()

train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[dict(name="cluster", max_iters=max_iters, work_dataloader=test_dataloader)],
)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper", optimizer=dict(type="Adam", lr=2e-2)
)
experiment = dict(
    name="sp2ot",
    metric="accuracy",
    reported="head of the last iteration",
    columns={
        "accuracy": ("test", "accuracy"),
        "class-balanced": ("test", "balanced"),
        "NMI": ("test", "nmi"),
    },
    rows=[
        dict(name="uniform", title="Uniform transport (Sinkhorn)"),
        dict(name="p2ot", title="P2OT"),
        dict(name="sp2ot", title="SP2OT"),
        dict(name="relaxed", title="Relaxed transport, no curriculum"),
        dict(
            name="kmeans",
            title="k-means on the pixels",
            baseline=dict(type="kmeans", clusters=10, key="view1"),
        ),
        dict(
            name="kmeans_unit",
            title="k-means on pixels of unit length",
            baseline=dict(type="kmeans", clusters=10, key="view1", unit=True),
        ),
    ],
)
walk = ["train_cfg.stages.0.max_iters=2", "train_dataloader.batch_size=32"]
