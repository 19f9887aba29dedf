# Masked autoencoders of scikit-learn's digits, as in configs/dmae: 8 x 8 pixels in 16
# patches, three quarters hidden; and the 100 labels that encoders are fine-tuned on.
vit = dict(
    type="pld_mmdet.MaskedViT", image_size=8, patch_size=2, in_channels=1, heads=4
)
decoder = dict(type="pld_mmdet.MAEDecoder", heads=4)
mean = 0.305  # of all training pixels
std = 0.376
few = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="pld_mmdet.Digits", part="train", labelled=10),
)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor="pld_mmdet.MergedGroups",
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
slower = dict(optim_wrapper, optimizer=dict(optim_wrapper["optimizer"], lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", by_epoch=False),
]
tuning = dict(dataloader=few, optim_wrapper=slower)
find_unused_parameters = True  # each stage trains a part of the model
