# TAID on a synthetic language: GPT-2 of 16 channels learns from the source itself.
_base_ = "plain.py"
from pld_mmdet.recipes.tables import in_parts, row, table

model = dict(
    type="pld_mmdet.TAID",
    t0=0.4,
    # 20 / N: with the published 5e-4 the adaptive step is below the linear one here.
    alpha=20 / 1000,
)
experiment = table(
    "taid",
    row("plain", "Cross-entropy, no teacher"),
    row("kl", "Forward KL"),
    row("taid", "TAID"),
    row("linear", "TAID, linear t"),
    row("reverse_kl", "Reverse KL"),
    row(
        "pairs",
        "Counts of pairs of words",
        baseline=dict(type="counted", size=32),
        config="configs/taid/plain.py",
    ),
    metric="reverse_kl",
    percent=False,
    lower_is_better=True,
    columns={
        "forward KL": ("test", "forward_kl"),
        "reverse KL": ("test", "reverse_kl"),
        "nll": ("test", "nll"),
    },
)
walk = [
    "train_cfg.max_iters=2",
    "train_dataloader.batch_size=4",
    "train_dataloader.dataset.size=16",
    *in_parts("dataset.size=4"),
]
