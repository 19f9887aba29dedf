# RG-LCD on Stable Diffusion 2.1 at 768 with the expert's own reward, as the authors'
# README trains it (Ji4chenLi/rg-lcd cd17456; train_lcm_distill_sd_wds.py); the number
# of GPUs is not said. latent.py has the proxy. tools/dist_train.sh
# configs/rg_lcd/paper.py 8
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import loader, parts, warm_up

folder = "data/teachers/stable-diffusion-2-1"
data_root = "data/captioned_images"
how_to_get = dict(
    data="Images and captions.json (file name -> 77 token numbers of the teacher's "
    "tokenizer) in data/captioned_images; the authors used CC12M.",
    teacher="stabilityai/stable-diffusion-2-1 in diffusers' folders in "
    "data/teachers/stable-diffusion-2-1.",
    expert="A transformers CLIPModel in data/teachers/clip; the authors used HPSv2.1.",
)
# SD 2.1's U-Net, for the student before it gets the teacher's weights
unet = dict(
    type="pld_mmdet.TextUNet",
    sample_size=96,
    in_channels=4,
    out_channels=4,
    block_out_channels=(320, 640, 1280, 1280),
    layers_per_block=2,
    attention_head_dim=(5, 10, 20, 20),
    cross_attention_dim=1024,
    use_linear_projection=True,
)
model = dict(
    type="pld_mmdet.RGLCD",
    process=dict(type="pld_mmdet.ScheduleProcess", folder=folder),
    network=unet,
    teacher=dict(type="pld_mmdet.TextUNet", pretrained=folder, subfolder="unet"),
    expert=dict(type="pld_mmdet.ClipScore", pretrained="data/teachers/clip"),
    space=dict(
        type="pld_mmdet.LatentSpace", pretrained=folder, subfolder="vae", drawn=True
    ),
    conditioner=dict(type="pld_mmdet.ClipWords", pretrained=folder),
    reward="direct",
    beta=1.0,
    points=50,
    w=(5.0, 15.0),
    huber=0.001,
    keep=0.95,
)
train_dataloader = loader(
    dict(type="pld_mmdet.CaptionedImages", data_root=data_root, size=768),
    16,
    train=True,
    workers=4,
)
optim_wrapper = parts(
    student=dict(
        optimizer=dict(type="AdamW", lr=1e-6, weight_decay=0.0),
        clip_grad=dict(max_norm=1.0),
    ),
)
param_scheduler = dict(student=[warm_up(2e-3, 500)])
model_wrapper_cfg = dict(type="PartsParallel")
train_cfg = dict(type="IterBasedTrainLoop", max_iters=10_000)
default_hooks = dict(checkpoint=dict(interval=1000))
