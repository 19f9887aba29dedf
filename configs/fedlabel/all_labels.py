# FedAvg where every image has its label: what pseudo-labels could reach at best.
_base_ = ["./labels_only.py"]

train_dataloader = dict(dataset=dict(labelled=1.0))
