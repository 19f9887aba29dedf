# Transport of all mass from the start, cluster sizes kept near uniform by a divergence.
_base_ = ["./p2ot.py"]

model = dict(rho_start=1.0)
