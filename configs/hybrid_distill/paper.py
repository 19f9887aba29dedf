# Hybrid Distill (a reconstruction) on ImageNet-1K: ViT-B from DeiT-B (features) and MAE
# ViT-B (relations). Neither the authors' code nor their settings are public: optimizer,
# length and batch are those of MAE's distillation (DMAE), layers and ratios are thirds
# of the depth; only alpha = beta = 1 and the teachers are theirs.
#   tools/dist_train.sh configs/hybrid_distill/paper.py 8 --amp
_base_ = ["../dmae/paper.py"]

deit = "data/teachers/deit_base_patch16_224-b5f2ef4d.pth"
mae = "data/teachers/mae_visualize_vit_base.pth"
how_to_get = dict(
    teacher="mkdir -p data/teachers && cd data/teachers && curl -LO "
    "https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth && curl "
    "-LO https://dl.fbaipublicfiles.com/mae/visualize/mae_visualize_vit_base.pth"
)
vit = dict(type="pld_mmdet.MaskedViT", dim=768, depth=12, heads=12)
model = dict(
    _delete_=True,
    type="pld_mmdet.HybridDistill",
    student=vit,
    feature_teacher=dict(vit, checkpoint=deit),
    relation_teacher=dict(vit, checkpoint=mae),
    layers=[5, 8],
    schedule=[(0, 0.9), (4, 0.9), (8, 0.9)],
    alpha=1.0,
    beta=1.0,
    num_classes=1000,
)
