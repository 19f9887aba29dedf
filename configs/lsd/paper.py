# LSD on text of 1024 GPT-2 tokens, M = 8. The authors released samplers, no training:
# N, the optimizer and its length are ours (? below). No weights are downloaded.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer

how_to_get = dict(
    checkpoint="set model.network.pretrained to a folder with the weights of a masked "
    "language model whose last word is the mask (RADD; Ou et al. 2024)"
)
tokens, length = 50257, 1024
model = dict(
    type="pld_mmdet.LSD",
    # of the size of SEDD-small and RADD-small
    network=dict(
        type="pld_mmdet.MaskedLMScore",
        vocab_size=tokens + 1,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=length,
    ),
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
