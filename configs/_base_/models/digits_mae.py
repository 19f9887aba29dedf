# Masked autoencoders of scikit-learn's digits, as in configs/dmae: 8 x 8 pixels in 16
# patches, three quarters hidden; and the 100 labels that encoders are fine-tuned on.
_base_ = []
from pld_mmdet.recipes import cosine, loader, optimizer, warm_up

vit = dict(
    type="pld_mmdet.MaskedViT", image_size=8, patch_size=2, in_channels=1, heads=4
)
decoder = dict(type="pld_mmdet.MAEDecoder", heads=4)
mean = 0.305  # of all training pixels
std = 0.376
few = loader(dict(type="pld_mmdet.Digits", part="train", labelled=10), 20, train=True)
optim_wrapper = optimizer(
    "AdamW", 2e-3, betas=(0.9, 0.95), weight_decay=0.05, spare_norms=True
)
slower = dict(optim_wrapper, optimizer=dict(optim_wrapper["optimizer"], lr=1e-3))
param_scheduler = [warm_up(0.01, 50), cosine()]
tuning = dict(dataloader=few, optim_wrapper=slower)
find_unused_parameters = True  # each stage trains a part of the model
