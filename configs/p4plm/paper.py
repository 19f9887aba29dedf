# P4PLM, three layers of BERT-base, 311 classes (the author's page, 48945b9; the data
# are private). B answers at each step (samples=None): 500 million rows of 311 logits
# do not fit into memory, and B does not change. 4 GPUs:
# bash tools/dist_train.sh configs/p4plm/paper.py 4
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, optimizer, poly, staged, warm_up

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
val_evaluator = test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.P4PLM",
    student=dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=311,
        pretrained=bert,
    ),
    masked=dict(type="pld_mmdet.EncoderTransformer", task="MaskedLM", pretrained=bert),
    samples=None,
    soft=True,
    mask_id=103,
    first_word=999,
)


def adam(rate):
    return optimizer(
        "AdamW",
        rate,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        half=True,
        spare_norms=True,
    )


def falling(begin):
    return poly(1.0, begin=begin)


long = dict(
    max_iters=3000000,
    dataloader=unlabelled,
    optim_wrapper=adam(5e-5),
    param_scheduler=[warm_up(1e-4, 10000), falling(10000)],
)
short = dict(
    max_iters=43750,  # 7 passes over 400 000 labels, 64 a step
    dataloader=train_dataloader,
    optim_wrapper=adam(1e-5),
    param_scheduler=[dict(type="ConstantLR", factor=1.0, by_epoch=False)],
)
train_cfg = staged(
    dict(name="mlm", **long),
    dict(name="labeller", **short),
    dict(name="distill", **long),
    dict(name="finetune", **short),
)
optim_wrapper = adam(1e-5)
param_scheduler = short["param_scheduler"]
find_unused_parameters = True
how_to_get = dict(
    data="your own texts as data/texts/{unlabelled,train,val,test}.jsonl (text, and "
    "label where there is one, a line), num_classes their classes; keep the first "
    "three layers of google-bert/bert-base-uncased as data/bert-base-3-layers"
)
