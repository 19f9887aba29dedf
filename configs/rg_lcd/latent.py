# RG-LCD with a proxy of the expert that reads latents (LRM), as the released script
# trains it without --direct_optim_expert_reward. The proxy's weights are not released:
# ours is small and begins at random.
_base_ = "./paper.py"

model = dict(
    reward="latent",
    proxy=dict(type="pld_mmdet.LatentReward", channels=4),
    logit_scale=100.0,  # CLIP's
)
optim_wrapper = dict(
    proxy=dict(optimizer=dict(type="AdamW", lr=3.3e-6, weight_decay=0.0))
)
param_scheduler = dict(proxy=[])
