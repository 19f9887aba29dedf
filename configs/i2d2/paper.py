# I2D2, GPT-2 XL and a RoBERTa critic. No code of the method was found: the critic's
# numbers are those of symbolic-knowledge-distillation (7fa8cbf), the decoder's those of
# neurologic_decoding (6694be9); the generator's training and the word lists are ours.
# 8 GPUs: bash tools/dist_train.sh configs/i2d2/paper.py 8
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, optimizer, stage, staged
from pld_mmdet.recipes.language import adamw, causal, classifier

gpt2, roberta = "data/gpt2-xl", "data/roberta-large-mnli"
prompts = loader(
    dict(
        type="pld_mmdet.TextLines",
        data_root="data/i2d2",
        ann_file="prompts.jsonl",
        keys=("text", "concept"),
    ),
    8,
)
train_dataloader = loader(
    dict(
        type="pld_mmdet.EncodedText",
        data_root="data/i2d2",
        ann_file="labels.jsonl",
        tokenizer=roberta,
        with_text=True,
    ),
    16,
    train=True,
)
connectives = ("and", "or", "but", "because", "which", "that", "who", "while", "if")
model = dict(
    type="pld_mmdet.I2D2",
    generator=causal(gpt2),
    critic=classifier(pretrained=roberta),
    words=gpt2,
    critic_words=roberta,
    threshold=0.5,
    forbidden=("not", "no", "never", "cannot", "n't", *connectives),
    at_most=[(("a", "an", "the", "of", "in", "on", "at", "to", "for", "with"), 1)],
    decoder=dict(beam=20, prune=50, tolerance=2, beta=0.0, length_penalty=0.2),
    new_tokens=20,
)
statements = loader(
    dict(type="pld_mmdet.TextLines", ann_file="{folder}/statements.jsonl"),
    8,
    train=True,
)
turn = dict(data=statements, work=prompts)
train_cfg = staged(
    stage("critic", 2000, optim=optimizer("AdamW", lr=5e-6)),
    stage("round_1", 10000, **turn),
    stage("round_2", 10000, **turn),
)
optim_wrapper = adamw(1e-5, half="bfloat16")
param_scheduler = []
find_unused_parameters = True
how_to_get = dict(
    data="write data/i2d2/prompts.jsonl (`text`, such as `Generally, birds can`, and "
    "`concept`, `birds`) and data/i2d2/labels.jsonl (`text`, `label`: 0 or 1, by hand "
    "for statements that the model made); get openai-community/gpt2-xl and a "
    "roberta-large with two classes (FacebookAI/roberta-large, or roberta-large-mnli "
    "with its head taken off) into data/"
)
