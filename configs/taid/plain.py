# Next-token cross-entropy alone. The teacher judges, it does not teach.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/markov_text.py"]
from pld_mmdet.recipes import cosine, optimizer

student = dict(
    type="pld_mmdet.CausalTransformer",
    config=dict(
        model_type="gpt2",
        vocab_size=32,
        n_positions=64,
        n_embd=16,  # too narrow for the source's 1024 contexts: a capacity gap
        n_layer=1,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
)
model = dict(
    type="pld_mmdet.CausalLanguageModel",
    student=student,
    teacher=dict(type="pld_mmdet.MarkovSource"),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.0, clip=1.0)
# Cosine to 0 without warm-up, as in TAID's code.
param_scheduler = cosine(T_max=1000)
