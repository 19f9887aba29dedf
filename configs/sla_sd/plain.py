# The baseline of SLA+SD: as many images and steps, cross-entropy only.
_base_ = "./toy.py"

model = dict(_delete_=True, type="pld_mmdet.Classifier", network=_base_.network)
train_dataloader = dict(batch_size=128)
