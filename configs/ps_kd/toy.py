# PS-KD on scikit-learn's digits with 20 % wrong labels. What its rows share stands in
# plain.py; which labels are wrong follows the seed, in every row alike.
_base_ = "./plain.py"
from pld_mmdet.recipes.tables import on_test, raw_pixels, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.PSKD",
    network=_base_.network,
    num_samples=400,
    num_classes=10,
    alpha_T=0.8,
)

wrong_labels = ["train_dataloader.dataset.noise_seed={seed}"]
experiment = table(
    "ps_kd",
    row("plain", "Cross-entropy only", *wrong_labels),
    row("label_smoothing", "Label smoothing", *wrong_labels),
    row("ps_kd", "PS-KD", *wrong_labels),
    raw_pixels(*wrong_labels),
    columns=on_test("accuracy", "ECE", "100 x NLL"),
    reported="network",
)
# Two epochs of two iterations, so that the past self is used.
walk = [
    "train_cfg.max_iters=4",
    "train_dataloader.batch_size=10",
    "train_dataloader.dataset.labelled=2",
]
