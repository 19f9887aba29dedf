# All real images and their targets, with as many steps of the same batch: what
# pre-training could give without any limit of storage.
_base_ = ["random_pairs.py"]

model = dict(size=1077, batch_size=50)
