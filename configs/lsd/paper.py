# LSD on text of 1024 GPT-2 tokens with SEDD-small, M = 8, as train_teacher.sh and
# train_student.sh of feiyangfu/LSD 5b423ee run it: 256 steps of the teacher, 16 of the
# optimizer with one sequence each. The loss and the relaxed start are the paper's.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer

folder = "data/teachers/sedd-small"
how_to_get = dict(
    checkpoint="Put config.json and model.safetensors of SEDD-small (louaaron/sedd-"
    "small) into data/teachers/sedd-small; RADD's folders are read too."
)
tokens, length = 50257, 1024
# what the folder's config says
sedd_small = dict(
    type="pld_mmdet.DDiTScore",
    tokens=tokens,
    hidden_size=768,
    n_blocks=12,
    n_heads=12,
    cond_dim=128,
)
model = dict(
    type="pld_mmdet.LSD",
    network=dict(type="pld_mmdet.DDiTScore", pretrained=folder),
    steps=8,
    teacher_steps=256,
    zeta=0.05,
    end=1e-5,
)
train_dataloader = loader(
    dict(type="pld_mmdet.MaskedStarts", tokens=tokens, length=length, size=16),
    1,
    train=True,
)
train_cfg = iterations(16)
train_cfg.pop("val_interval")
optim_wrapper = optimizer("Adam", 0.01)
