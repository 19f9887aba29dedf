# LLP-BP on the bank-marketing table that the authors' repository holds, bags of 8, two
# rounds (google-deepmind/llp_bp, commit 5bca483, defaults of train.py): MLP
# 5040-1280-320-128-64, AdamW 1e-3, 1024 instances a step. Their bags are rows that
# follow each other, ours are drawn; their rounds end by the AUC of val after at most
# 100 epochs, ours take 100. The factor of a bag is exact, so (10, 10) cannot diverge.
#   python tools/train.py configs/llp_bp/paper.py
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged

root = "data/llp_bp"
how_to_get = dict(
    data="git clone https://github.com/google-deepmind/llp_bp, then put its data/*.csv "
    "into data/llp_bp"
)


def table(part):
    return dict(
        type="pld_mmdet.Table",
        inputs=f"{root}/x_{part}.csv",
        targets=f"{root}/y_{part}.csv",
    )


bags = dict(type="pld_mmdet.ProportionBags", dataset=table("train"), size=8, seed=0)
model = dict(
    type="pld_mmdet.LLPBP",
    network=dict(type="pld_mmdet.MLP", sizes=(16, 5040, 1280, 320, 128)),
    num_samples=27120,  # 27126 rows in bags of 8
    feat_dim=128,
    hidden=64,
    bag_weight=10.0,
    smooth_weight=10.0,
    k=5,
    aggregate_weight=0.1,
)
train_dataloader = loader(bags, 128, train=True)
val_dataloader = loader(table("val"), 2048)
test_dataloader = loader(table("test"), 2048)
val_evaluator = test_evaluator = dict(type="pld_mmdet.AUCMetric")
val_cfg = test_cfg = dict()
work = loader(bags, 128)
epoch = 27  # iterations of 128 bags
train_cfg = staged(
    stage("round_1", 100 * epoch, work=work), stage("round_2", 100 * epoch, work=work)
)
optim_wrapper = optimizer("AdamW", 1e-3, weight_decay=0.0)
del table, loader, optimizer
