# MEND, GPT-2 for GPT-2 large (authors' code, 169e60d): 30 000 steps on C4 with the
# divergence alone, then 30 000 on MetaICL's tasks.
# 1 GPU: python tools/train.py configs/mend/paper.py
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, optimizer, poly, stage, staged
from pld_mmdet.recipes.language import causal

small, large = "data/gpt2", "data/gpt2-large"
tasks = dict(type="pld_mmdet.TaskText", data_root="data/metaicl", tokenizer=large)
train_dataloader = loader(
    dict(**tasks, ann_file="train.jsonl"), 1, train=True, workers=2
)
val_dataloader = loader(dict(**tasks, ann_file="val.jsonl"), 4)
test_dataloader = loader(dict(**tasks, ann_file="test.jsonl"), 4)
texts = dict(
    type="pld_mmdet.PackedText",
    data_root="data/c4",
    ann_file="validation.jsonl",
    tokenizer=large,
    length=900,
)
model = dict(
    type="pld_mmdet.MEND",
    llm=causal(large),
    hypernet=causal(small),
    vectors=100,
    beta=0.8,
    kl_weight=1.0,
)
# what transformers' Trainer does unless told otherwise: to 0, clipped, no decay
usual = dict(weight_decay=0.0, clip=1.0)
falls = [poly(1.0)]
train_cfg = staged(
    stage(
        "pretrain",
        30000,
        data=loader(texts, 1, train=True, workers=2),
        optim=optimizer("AdamW", lr=5e-5, **usual),
        schedule=falls,
    ),
    stage("finetune", 30000, schedule=falls),
    val_interval=2000,
)
optim_wrapper = optimizer("AdamW", lr=1e-5, **usual)
param_scheduler = []
find_unused_parameters = True
how_to_get = dict(
    data="write C4's validation split (allenai/c4, en) as data/c4/validation.jsonl "
    "(one object with `text` a line) and MetaICL's tasks (facebookresearch/MetaICL) as "
    "data/metaicl/{train,val,test}.jsonl (`task`, `input`, `output`); get "
    "openai-community/gpt2 and gpt2-large into data/"
)
