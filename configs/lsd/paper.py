# LSD on text of 1024 GPT-2 tokens, M = 8. The authors released samplers, no training:
# N, the optimizer and its length are ours (? below). The score network is a user's own
# (SEDD or RADD weights behind `(x, t) -> scores [N, L, V]`); none is downloaded.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer

how_to_get = dict(
    checkpoint="register a score network and name it in model.network; its weights "
    "come with it"
)
tokens, length = 50257, 1024
model = dict(
    type="pld_mmdet.LSD",
    network=dict(type="pld_mmdet.RingLanguage", tokens=tokens, length=length),
    steps=8,
    teacher_steps=256,
    zeta=0.05,
    end=1e-5,
)
train_dataloader = loader(
    dict(type="pld_mmdet.MaskedStarts", tokens=tokens, length=length, size=4096),
    8,
    train=True,
)
train_cfg = iterations(200)  # ?
train_cfg.pop("val_interval")
optim_wrapper = optimizer("Adam", 0.02)  # ?
