# Transport of all mass to clusters of equal size: the labels of SeLa and SwAV.
_base_ = ["./relaxed.py"]

model = dict(gamma=float("inf"))
