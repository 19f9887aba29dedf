# P4PLM, three layers of BERT-base, 311 classes (the author's page, 48945b9; the data
# are private). B answers at each step (samples=None): 500 million rows of 311 logits
# do not fit into memory, and B does not change. 4 GPUs:
# bash tools/dist_train.sh configs/p4plm/paper.py 4
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, rise_and_fall, stage, staged
from pld_mmdet.recipes.language import adamw, classifier, masked

bert = "data/bert-base-3-layers"
encoded = dict(
    type="pld_mmdet.EncodedText", data_root="data/texts", tokenizer=bert, max_length=64
)
unlabelled = loader(
    dict(**encoded, ann_file="unlabelled.jsonl"), 64, train=True, workers=4
)
train_dataloader = loader(
    dict(**encoded, ann_file="train.jsonl"), 16, train=True, workers=4
)
val_dataloader = loader(dict(**encoded, ann_file="val.jsonl"), 256)
test_dataloader = loader(dict(**encoded, ann_file="test.jsonl"), 256)

model = dict(
    type="pld_mmdet.P4PLM",
    student=classifier(311, pretrained=bert),
    masked=masked(pretrained=bert),
    samples=None,
    soft=True,
    mask_id=103,
    first_word=999,
)


fast = adamw(5e-5, half=True, spare_norms=True)
optim_wrapper = adamw(1e-5, half=True, spare_norms=True)
param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
long = dict(steps=3000000, data=unlabelled, optim=fast, schedule=rise_and_fall(10000))
short = dict(
    steps=43750,  # 7 passes over 400 000 labels, 64 a step
    data=train_dataloader,
    optim=optim_wrapper,
    schedule=param_scheduler,
)
train_cfg = staged(
    stage("mlm", **long),
    stage("labeller", **short),
    stage("distill", **long),
    stage("finetune", **short),
)
find_unused_parameters = True
how_to_get = dict(
    data="your own texts as data/texts/{unlabelled,train,val,test}.jsonl (text, and "
    "label where there is one, a line), num_classes their classes; keep the first "
    "three layers of google-bert/bert-base-uncased as data/bert-base-3-layers"
)
