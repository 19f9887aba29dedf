# Distiller, BERT-base -> TinyBERT 4 x 312 on MNLI with MI-alpha. The authors' script
# (a6a48f7, experiments/distillation.sh) is a run on SQuAD 1.1 with texts of 320 tokens:
# its losses, rate, batch and epochs are taken over to MNLI, one of the tasks of their
# table of runs; length and data are ours. On 4 GPUs:
# bash tools/dist_train.sh configs/distiller/paper.py 4
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, rise_and_fall, stage, staged
from pld_mmdet.recipes.language import MNLI, adamw, classifier

bert = "data/bert-base-uncased-mnli"
mnli = dict(
    type="pld_mmdet.EncodedText",
    data_root="data/mnli",
    tokenizer=bert,
    max_length=128,
    classes=MNLI,
)
train_dataloader = loader(
    dict(**mnli, ann_file="train.jsonl"), 16, train=True, workers=4
)
val_dataloader = test_dataloader = loader(
    dict(**mnli, ann_file="dev_matched.jsonl"), 128
)

model = dict(
    type="pld_mmdet.Distiller",
    finetuned=classifier(3, pretrained=bert),
    student=classifier(3, pretrained="data/tinybert-general-4l-312d"),
    hard_weight=0.0,
    pred="mse",
    inter="mi",
    mapping="skip",
    mix=0.711,  # their alpha of 0.9, a logit
    mask_id=103,
    first_word=999,
)
steps = 122720  # 20 passes over 392 702 pairs, 64 a step
train_cfg = staged(stage("distill", steps))
optim_wrapper = adamw(5e-5, 0.1, eps=1e-8, half=True, spare_norms=True)
param_scheduler = rise_and_fall(steps // 10)
find_unused_parameters = True
how_to_get = dict(
    data="write GLUE's MNLI as data/mnli/{train,dev_matched}.jsonl (text, pair, label "
    "a line); get a BERT-base that is fine-tuned on MNLI as "
    "data/bert-base-uncased-mnli and huawei-noah/TinyBERT_General_4L_312D as "
    "data/tinybert-general-4l-312d"
)
