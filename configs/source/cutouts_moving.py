# The source detector on photographs with norms that move while it is trained.
_base_ = "./cutouts.py"

model = dict(backbone=dict(norm_eval=False))
