# Next-token cross-entropy alone. The teacher judges, it does not teach.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/markov_text.py"]
from pld_mmdet.recipes import cosine, optimizer
from pld_mmdet.recipes.language import gpt2

# 16 channels are too narrow for the source's 1024 contexts: a capacity gap
student = gpt2(32, 64, 16, layers=1, heads=2)
model = dict(
    type="pld_mmdet.CausalLanguageModel",
    student=student,
    teacher=dict(type="pld_mmdet.MarkovSource"),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.0, clip=1.0)
# Cosine to 0 without warm-up, as in TAID's code.
param_scheduler = cosine(T_max=1000)
