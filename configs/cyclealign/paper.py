# CycleAlign, Alpaca-7B on prompts of HH-RLHF. Its code was not released: what is not
# known of it is PRO's (AlibabaResearch/DAMO-ConvAI). The ranker is ChatGPT there; here
# a local chat model ranks, and a service is a class of your own.
# 7 GPUs: bash tools/dist_train.sh configs/cyclealign/paper.py 7
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.language import adamw, causal

alpaca, chat = "data/alpaca-7b", "data/llama-3.1-8b-instruct"
prompts = dict(
    type="pld_mmdet.PromptedText",
    data_root="data/hh-rlhf",
    tokenizer=alpaca,
    prompt_length=384,
    answer_length=128,
    pad=0,
)
train = dict(**prompts, ann_file="train.jsonl", size=10000)
train_dataloader = loader(train, 2, train=True, workers=2)
val_dataloader = test_dataloader = loader(dict(**prompts, ann_file="val.jsonl"), 2)
val_evaluator = test_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
val_cfg = test_cfg = dict()
model = dict(
    type="pld_mmdet.CycleAlign",
    network=causal(alpaca),
    ranker=dict(
        type="pld_mmdet.LabelRanker",
        network=causal(chat, dtype="bfloat16"),
        tokenizer=chat,
        writer=alpaca,
        prompt=384,
        pad=0,
    ),
    samples=(10000, 512),
    prompt=384,
    n=3,
    demos=3,
    ranking="pro",
    sft_weight=0.05,
    pad=0,
    stop=2,
)
train_cfg = staged(
    *[stage(f"round_{i}", 2 * 10000 // 14, work=loader(train, 4)) for i in (1, 2, 3)]
)
optim_wrapper = adamw(5e-6, half="bfloat16")
param_scheduler = []
find_unused_parameters = True
how_to_get = dict(
    data="write Anthropic/hh-rlhf as data/hh-rlhf/{train,val}.jsonl (one object with "
    "`messages` a line, the chosen answer last); get Alpaca-7B (LLaMA-7B with "
    "tatsu-lab's difference) as data/alpaca-7b and meta-llama/Llama-3.1-8B-Instruct as "
    "data/llama-3.1-8b-instruct"
)
