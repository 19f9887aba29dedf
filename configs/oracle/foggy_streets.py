# The room above: the source recipe trained on foggy images *with* labels.
_base_ = "../source/foggy_streets_on_fog.py"

train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file="annotations/train_foggy_beta_0.02.json"))
)
