# TAID as published: Phi-3-mini -> TinyLlama on UltraChat 200k (authors' code, a062892).
# 8 GPUs: bash tools/dist_train.sh configs/taid/paper.py 8
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader
from pld_mmdet.recipes.language import adamw, causal

tokenizer = "data/phi-3-mini-4k-instruct"
vocab_size = 32064  # Phi-3's; the student's 32000 embeddings grow to it
chat = dict(
    type="pld_mmdet.ChatText",
    data_root="data/ultrachat",
    tokenizer=tokenizer,
    prompt_length=1536,
    answer_length=512,
    too_long="drop",
)
four = dict(workers=4, persistent=False)
train_dataloader = loader(
    dict(**chat, ann_file="train_sft.jsonl"),
    8,  # x 8 GPUs
    train=True,
    epochs=True,
    **four,
)
# theirs: 2000 drawn at random
scored = dict(**chat, ann_file="test_sft.jsonl", size=2000)
val_dataloader = test_dataloader = loader(scored, 8, **four)
val_evaluator = test_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.TAID",
    student=causal("data/tinyllama-1.1b", vocab_size=vocab_size),
    teacher=causal(tokenizer, vocab_size=vocab_size, dtype="bfloat16"),
    t0=0.4,  # 0.2 for the paper's two other pairs
    t1=1.0,
    alpha=5e-4,
    beta=0.99,
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=5)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    # the code keeps the epoch with the best ROUGE-L of generated answers; here: nll
    checkpoint=dict(by_epoch=True, interval=1, save_best="nll", rule="less")
)
optim_wrapper = adamw(
    1e-4,
    half="bfloat16",
    clip=1.0,
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0)), bias_decay_mult=0),
    constructor="pld_mmdet.MergedGroups",
)
param_scheduler = dict(
    type="CosineAnnealingLR", T_max=5, by_epoch=True, convert_to_iter_based=True
)
how_to_get = dict(
    data="get HuggingFaceH4/ultrachat_200k and write its train_sft and test_sft parts "
    "as data/ultrachat/{train,test}_sft.jsonl (one object with `messages` a line); "
    "get microsoft/Phi-3-mini-4k-instruct as data/phi-3-mini-4k-instruct and "
    "TinyLlama's base model as data/tinyllama-1.1b (hub snapshots: config, "
    "safetensors, tokenizer)"
)
