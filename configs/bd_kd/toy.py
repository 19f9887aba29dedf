# BD-KD on scikit-learn's digits: a student of 16 hidden units learns beside a small CNN
# from 20 labels a class. What its rows share stands in plain.py.
_base_ = "./plain.py"

from pld_mmdet.recipes.tables import on_test, raw_pixels, row, table

model = dict(
    _delete_=True,
    type="pld_mmdet.BDKD",
    student=_base_.student,
    teacher=dict(type="pld_mmdet.SmallConvNet", widths=(32, 32)),
    nu=2.0,
    tau=1.0,
    alpha=1.0,
)
# Deep mutual learning (Zhang et al. 2018): both networks learn the other's forward KL.
forward = "model.student_kl=forward"
experiment = table(
    "bd_kd",
    row("plain", "Cross-entropy only"),
    row("mutual", "Deep mutual learning (forward KL)", forward),
    # as much weight on the divergence as BD-KD's student has (1 + nu): what is left
    # between the two is the kind of divergence, not its weight
    row("mutual_x3", "Deep mutual learning, weight 3", forward, "model.alpha=3.0"),
    row("bd_kd", "BD-KD"),
    row("no_balance", "BD-KD without balancing (nu = 1)", "model.nu=1.0"),
    raw_pixels(),
    columns=on_test("accuracy", "ECE", "100 x NLL"),
    reported="student",
)
