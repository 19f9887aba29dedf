# FIRST, Qwen1.5-7B -> 1.8B on Alpaca (authors' code, c2c7c76, example_run.sh). Its
# temperature is chosen on val; its ways of dividing by the sum: `linear`, 1e-6.
# 8 GPUs: bash tools/dist_train.sh configs/first/paper.py 8
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged, warm_up
from pld_mmdet.recipes.language import causal

alpaca = dict(
    type="pld_mmdet.ChatText",
    data_root="data/alpaca",
    tokenizer="data/qwen1.5-1.8b",
    prompt_length=512,
    answer_length=512,
    too_long="cut",
    answer_only=True,
    with_index=True,
)
train = dict(**alpaca, ann_file="train.jsonl")
train_dataloader = loader(train, 8, train=True, workers=4)
val_dataloader = test_dataloader = loader(dict(**alpaca, ann_file="val.jsonl"), 8)

model = dict(
    type="pld_mmdet.FIRST",
    teacher=causal("data/qwen1.5-7b-alpaca", vocab_size=151936, dtype="bfloat16"),
    student=causal("data/qwen1.5-1.8b", vocab_size=151936),
    top_k=5,
    answers="data/alpaca/answers.safetensors",
)
steps = 1218  # 3 passes over 52 002 conversations, 128 a step
train_cfg = staged(
    stage("calibrate", 0, work=val_dataloader),
    stage("answers", 0, work=loader(train, 8)),
    stage("student", 2 * steps),
)
optim_wrapper = optimizer(
    # the script's decay never reaches their optimizer: torch's own
    "AdamW",
    2e-6,
    betas=(0.9, 0.999),
    eps=1e-8,
    half="bfloat16",
    accumulative_counts=2,
)
param_scheduler = [warm_up(1e-3, 73), cosine(begin=73)]  # 3 %
find_unused_parameters = True
how_to_get = dict(
    data="write tatsu-lab/alpaca as data/alpaca/{train,val}.jsonl (one object with "
    "`messages` a line; keep 500 for val); get Qwen/Qwen1.5-1.8B as data/qwen1.5-1.8b "
    "and a Qwen1.5-7B that is fine-tuned on Alpaca as data/qwen1.5-7b-alpaca"
)
