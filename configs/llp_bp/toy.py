# LLP-BP on digits, is it 5 or more: 33 random bags of 32 train images, two rounds with
# (lambda_s, lambda_b) = (1, 0.1), not tuned here. Each seed has its bags.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import lengths, row, table


def digits(part):
    return dict(
        type="pld_mmdet.TwoClasses",
        dataset=dict(type="pld_mmdet.Digits", part=part),
        positive=[5, 6, 7, 8, 9],
    )


bags = dict(type="pld_mmdet.ProportionBags", dataset=digits("train"), size=32, seed=0)
model = dict(
    type="pld_mmdet.LLPBP",
    network=dict(type="pld_mmdet.MLP", sizes=(64, 64, 128)),
    num_samples=1056,
    feat_dim=128,
    bag_weight=0.1,
    smooth_weight=1.0,
    k=5,
    aggregate_weight=0.1,
)
train_dataloader = loader(bags, 4, train=True)
val_dataloader = loader(digits("val"), 360)
test_dataloader = loader(digits("test"), 360)
val_evaluator = test_evaluator = dict(type="pld_mmdet.AUCMetric")
val_cfg = test_cfg = dict()

work = loader(bags, 33)
train_cfg = staged(stage("round_1", 400, work=work), stage("round_2", 400, work=work))
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.0)

seeds = [
    "train_dataloader.dataset.seed={seed}",
    "train_cfg.stages.0.work_dataloader.dataset.seed={seed}",
    "train_cfg.stages.1.work_dataloader.dataset.seed={seed}",
]
plain = [
    "train_cfg.stages.0.name=dllp",
    "train_cfg.stages.0.max_iters=800",
    "train_cfg.stages.1.max_iters=0",
    "train_cfg.stages.1.name=end",
]
once = ["train_cfg.stages.1.max_iters=0", "train_cfg.stages.0.max_iters=800"]
experiment = table(
    "llp_bp",
    row("dllp", "DLLP", *seeds, *plain),
    row("entropy", "DLLP + entropy", *seeds, *plain, "model.entropy=0.1"),
    row("llp_bp", "LLP-BP, round 1", *seeds, *once),
    row("round_2", "LLP-BP, rounds 1 and 2", *seeds),
    row(
        "raw_pixels",
        "Raw pixels with their bag's share, logistic regression",
        *seeds,
        baseline="proportions",
    ),
    metric="auc",
    percent=False,  # 0 to 100 already
    reported="instance head of the last iteration",
    columns={"AUC": ("test", "auc")},
)
walk = lengths(1, 1)
del digits, loader, optimizer, row
