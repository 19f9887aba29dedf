# PD, a BERT-Small (4 x 512) for MNLI. Only checkpoints were released: masked words are
# learnt with google-research/bert's own settings (run_pretraining.py, eedf571), the
# steps on MNLI with those of its README for the compact models; the paper's lengths
# were not found.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.language.pd import compact_bert
from pld_mmdet.recipes import loader, rise_and_fall, stage, staged
from pld_mmdet.recipes.language import MNLI, adamw, classifier, masked

bert = "data/bert-large-uncased-mnli"
encoded = dict(
    type="pld_mmdet.EncodedText", data_root="data/mnli", tokenizer=bert, max_length=128
)
labelled = dict(**encoded, classes=MNLI)
transfer = dict(**encoded, ann_file="transfer.jsonl", indexed=True)
train_dataloader = loader(
    dict(**labelled, ann_file="train.jsonl"), 32, train=True, workers=4
)
val_dataloader = test_dataloader = loader(
    dict(**labelled, ann_file="dev_matched.jsonl"), 128
)

config = compact_bert(4, 512)
number = 392702  # lines of transfer.jsonl: MNLI's pairs without their labels
model = dict(
    type="pld_mmdet.PD",
    student=classifier(3, config=config),
    student_lm=masked(config=config),
    teacher=classifier(3, pretrained=bert),
    samples=(number, 3),
    mask_id=103,
    first_word=999,
)


def learning(steps, rate):
    return dict(
        steps=steps,
        optim=adamw(rate, eps=1e-6, clip=1.0, spare_norms=True),
        schedule=rise_and_fall(steps // 10),
    )


general = loader(dict(**encoded, ann_file="general.jsonl"), 32, train=True, workers=4)
passes4 = 49088  # 4 passes over 392 702, 32 a step
answered = loader(transfer, 32, train=True, workers=4)
train_cfg = staged(
    stage("mlm", data=general, **learning(100000, 5e-5)),
    stage(
        "distill",
        data=answered,
        work=loader(transfer, 128),
        **learning(passes4, 1e-4),
    ),
    stage("finetune", data=train_dataloader, **learning(passes4, 1e-4)),
)
optim_wrapper = train_cfg["stages"][2]["optim_wrapper"]
param_scheduler = train_cfg["stages"][2]["param_scheduler"]
find_unused_parameters = True
how_to_get = dict(
    data="write GLUE's MNLI as data/mnli/{train,dev_matched}.jsonl (text, pair, label "
    "a line), the same pairs without labels as transfer.jsonl and English text as "
    "general.jsonl; get a BERT-large that is fine-tuned on MNLI as "
    "data/bert-large-uncased-mnli"
)
