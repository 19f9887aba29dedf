# AutoDistil, sub-space `small`, BERT-base on Wikipedia and books (authors' code,
# ea5cc7f, run_yaml/KD_wiki_book_Seqlen128_PreModel_RndSampl_Small_256Subs.yaml), then
# the best sub-network on MNLI (finetune_glue.py). 16 GPUs:
# bash tools/dist_train.sh configs/autodistil/paper.py 16
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, poly, stage, staged
from pld_mmdet.recipes.language import MNLI, adamw, masked

bert = "data/bert-base-uncased"
encoded = dict(type="pld_mmdet.EncodedText", tokenizer=bert, max_length=128)
general = loader(
    dict(**encoded, data_root="data/wiki_book", ann_file="train.jsonl"),
    128,
    train=True,
    workers=4,
)
held_out = dict(**encoded, data_root="data/wiki_book", ann_file="held_out.jsonl")
mnli = dict(**encoded, data_root="data/mnli", classes=MNLI)
train_dataloader = loader(
    dict(**mnli, ann_file="train.jsonl"), 2, train=True, workers=4
)
val_dataloader = test_dataloader = loader(
    dict(**mnli, ann_file="dev_matched.jsonl"), 128
)

model = dict(
    type="pld_mmdet.AutoDistil",
    teacher=masked(pretrained=bert),
    student=dict(type="pld_mmdet.ElasticEncoder", num_classes=3),
    space=dict(
        layers=(9, 10, 11, 12),
        heads=(7, 8, 9, 10),
        width=(256, 288, 320, 352),
        ratio=(2.5, 3.0, 3.5, 4.0),
    ),
    relation="mse",
    mask_id=103,
    first_word=999,
)


def adam(rate, decay=0.01):
    return adamw(rate, decay, eps=1e-8, half=True, clip=1.0, spare_norms=True)


# the code's warm-up of 6 % is for RoBERTa; BERT has none
falling = [poly(1.0)]
number = 24000000  # lines of data/wiki_book/train.jsonl: set it to yours
steps = 15 * number // (128 * 16)  # 15 passes
tuning = 20 * 392702 // 32  # 20 passes over MNLI
train_cfg = staged(
    stage("distill", steps, data=general, optim=adam(4e-5), schedule=falling),
    stage("search", 0, work=loader(held_out, 128)),
    stage("alone", steps, data=general, optim=adam(4e-5), schedule=falling),
    stage("finetune", tuning, optim=adam(2e-5, 0.0), schedule=falling),
)
optim_wrapper = adam(2e-5, 0.0)
param_scheduler = falling
find_unused_parameters = True
how_to_get = dict(
    data="write Wikipedia and books as data/wiki_book/{train,held_out}.jsonl (text a "
    "line) and GLUE's MNLI as data/mnli/{train,dev_matched}.jsonl (text, pair, label); "
    "get google-bert/bert-base-uncased as data/bert-base-uncased"
)
