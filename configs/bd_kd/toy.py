# BD-KD on scikit-learn's digits: a student of 16 hidden units learns beside a small CNN
# from 20 labels a class. What its rows share stands in plain.py.
_base_ = "./plain.py"

model = dict(
    _delete_=True,
    type="pld_mmdet.BDKD",
    student=_base_.student,
    teacher=dict(type="pld_mmdet.SmallConvNet", widths=(32, 32)),
    nu=2.0,
    tau=1.0,
    alpha=1.0,
)
experiment = dict(
    name="bd_kd",
    metric="accuracy",
    columns={
        "accuracy": ("test", "accuracy"),
        "ECE": ("test", "ece"),
        "100 x NLL": ("test", "nll"),
    },
    reported="student",
    rows=[
        dict(name="plain", title="Cross-entropy only"),
        dict(name="mutual", title="Deep mutual learning (forward KL)"),
        dict(name="mutual_x3", title="Deep mutual learning, weight 3"),
        dict(name="bd_kd", title="BD-KD"),
        dict(name="no_balance", title="BD-KD without balancing (nu = 1)"),
    ],
)
