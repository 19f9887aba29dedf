# 4DGen of a user's own video: 16 frames of 512 x 512 at pose 0, 16 pseudo views of each
# (SyncDreamer's), Zero123 as the prior. Rates and lengths are the released code's; the
# weights of the consistency terms are in neither paper nor code (? below). One scene is
# one run on one GPU.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, optimizer, stage, staged

data_root = "data/scene"
how_to_get = dict(
    data="views/<frame>_<view>.png (RGBA, 512 x 512; view 0 is the video, the others "
    "are a multi-view model's) and views.json: the list of each view's [elevation, "
    "azimuth] in degrees; points/<frame>.npy [P, 3] where there are point clouds, in "
    "data/scene.",
    teacher="zero123-xl in diffusers' folders (unet, vae, image_encoder, "
    "cc_projection) in data/teachers/zero123.",
)
scene = dict(type="pld_mmdet.SceneViews", data_root=data_root)
model = dict(
    type="pld_mmdet.Gen4D",
    field=dict(
        type="pld_mmdet.HexPlaneField",
        channels=32,
        resolution=64,
        times=16,
        levels=(1, 2, 4, 8),
        width=256,
        depth=2,
    ),
    count=10_000,  # ?
    capacity=90_000,  # 25 000 to 90 000 Gaussians in the end
    ball=1.0,
    scale=0.02,
    prior=dict(
        type="pld_mmdet.Zero123Prior", pretrained="data/teachers/zero123", size=256
    ),
    process=dict(type="pld_mmdet.EpsProcess"),
    size=512,
    fov=40.0,
    radius=2.5,
    l1=10.0,
    perceptual=20.0,
    ssim=2.0,
    even=2.0,
    front=10.0,
    chamfer=1.0,  # ?
    smooth=1.0,  # ?
    tv=1.0,  # ?
    sds=0.5,
    sds_share=0.8,
    guidance=2.0,
    rate=1 / 16,
)
train_dataloader = loader(scene, 16, train=True, workers=4)
first = loader(dict(scene, first_only=True), 16, train=True, workers=4)
optim_wrapper = optimizer(
    "Adam",
    1.6e-4,  # positions and MLP
    eps=1e-15,
    paramwise_cfg=dict(
        custom_keys={
            "field.planes": dict(lr_mult=10.0),
            "turns": dict(lr_mult=6.25),
            "scales": dict(lr_mult=31.25),
            "opacities": dict(lr_mult=312.5),
            "colours": dict(lr_mult=15.625),
        }
    ),
)
# to a tenth over the fine stage; the code's position ends at a hundredth
fall = [dict(type="ExponentialLR", gamma=0.1 ** (1 / 3000), by_epoch=False)]
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = staged(
    stage("static", 1000, data=first),
    stage("coarse", 1000),
    stage("fine", 3000, schedule=fall),
)
default_hooks = dict(checkpoint=dict(interval=500))
