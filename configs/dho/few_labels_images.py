# DHO on Fashion-MNIST with few labels: the teacher is the nearest class mean in frozen
# ImageNet features. The images are seen as they are, as in its released script.
_base_ = "../_base_/contests/few_labels_images.py"
from pld_mmdet.recipes.fashion import few, lite0_features, small_resnet

model = dict(
    _delete_=True,
    type="pld_mmdet.DHO",
    student=small_resnet(),
    teacher=dict(
        type="pld_mmdet.ClassMeans",
        features=dict(type="pld_mmdet.FrozenFeatures", **lite0_features()),
        dataset=few(),
        num_classes=10,
    ),
    num_classes=10,
)
custom_hooks = _base_.custom_hooks[:-1]  # no EMA
