# Impossible Distillation, news: GPT-2 XL -> T5-large (authors' code, b2d3ba7, which has
# no training: its optimizer and lengths are not the authors').
# 8 GPUs: bash tools/dist_train.sh configs/impossible_distillation/paper.py 8
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.language import adamw, causal, classifier

prefixes = dict(
    type="pld_mmdet.TextLines", data_root="data/dimsum", ann_file="prefixes.jsonl"
)
train_dataloader = loader(prefixes, 1)
model = dict(
    type="pld_mmdet.ImpossibleDistillation",
    lm=causal("data/gpt2-xl"),
    student=dict(type="pld_mmdet.Seq2SeqTransformer", pretrained="data/t5-v1_1-large"),
    critic=dict(
        type="pld_mmdet.EntailmentClassifier",
        network=classifier(pretrained="data/roberta-large-wanli"),
        tokenizer="data/roberta-large-wanli",
        entailment=1,
    ),
    lm_words="data/gpt2-xl",
    student_words="data/t5-v1_1-large",
    filters=dict(length=(0.8, 1.5), entailment=0.75, rouge=0.75),
    contexts=dict(new_tokens=150, count=100, top_p=0.9, temperature=1.0),
    bootstrap=dict(new_tokens=100, count=100, top_p=0.9, temperature=0.5, no_repeat=3),
    refine=dict(new_tokens=100, count=10, top_p=0.9, temperature=0.7, no_repeat=3),
)
pairs = loader(
    dict(
        type="pld_mmdet.TextLines",
        ann_file="{folder}/pairs.jsonl",
        keys=("source", "target", "context"),
    ),
    8,
    train=True,
)
student = dict(data=pairs, work=train_dataloader)
train_cfg = staged(
    stage("context", 0, work=train_dataloader),
    stage("student_0", 20000, **student),
    stage("student_1", 20000, **student),
)
optim_wrapper = adamw(1e-4, half="bfloat16")
param_scheduler = []
find_unused_parameters = True
how_to_get = dict(
    data="write prefixes such as `(CNN) --` as data/dimsum/prefixes.jsonl (one object "
    'with "text" a line: of the media, countries and cities of the authors\' '
    "data/prefix/news_prefix.json, half `(MEDIA) --`, a quarter each `Country (MEDIA) "
    "--` and `CITY, Country (MEDIA) --`); get openai-community/gpt2-xl, "
    "google/t5-v1_1-large and alisawuffles/roberta-large-wanli into data/"
)
