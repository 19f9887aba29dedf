# ERNIE-Tiny, BERT-base -> 4 x 312 on MNLI. The paper's optimizer and lengths were not
# found: lengths are 3 + 3 + 3 + 3 passes over MNLI in batches of 32, the optimizer is
# that of TinyBERT's task_distill.py: 5e-5 without a schedule for latent losses; 3e-5
# with a tenth of warm-up, then a line to 0, for the last; no decay of biases and norms.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, optimizer, rise_and_fall, stage, staged
from pld_mmdet.recipes.language import MNLI, classifier, masked

bert = "data/bert-base-uncased"
corpus = dict(
    type="pld_mmdet.EncodedText", data_root="data/mnli", tokenizer=bert, max_length=128
)
four = dict(workers=4, persistent=False)
wikipedia = dict(corpus, data_root="data/wikipedia", ann_file="general.jsonl")
general = loader(wikipedia, 32, train=True, **four)
task = dict(corpus, ann_file="train.jsonl", classes=MNLI)
train_dataloader = loader(task, 32, train=True, **four)
val_dataloader = test_dataloader = loader(
    dict(task, ann_file="dev_matched.jsonl"), 128, **four
)

model = dict(
    type="pld_mmdet.ERNIETiny",
    pretrained=masked(pretrained=bert),
    # BERT-base until the stage `teacher` has trained it on the task
    finetuned=classifier(3, pretrained=bert),
    student=classifier(
        3,
        config=dict(
            model_type="bert",
            vocab_size=30522,
            hidden_size=312,
            num_hidden_layers=4,
            num_attention_heads=12,
            intermediate_size=1200,
        ),
    ),
    mask_id=103,
    first_word=999,
)


epochs3 = 36816


def adam(rate):
    return optimizer(
        "AdamW", rate, eps=1e-6, weight_decay=0.01, clip=1.0, spare_norms=True
    )


def linear(rate):
    return dict(
        optim_wrapper=adam(rate),
        param_scheduler=rise_and_fall(epochs3 // 10),
    )


def constant(rate):
    return dict(
        optim_wrapper=adam(rate),
        param_scheduler=[dict(type="ConstantLR", factor=1.0, by_epoch=False)],
    )


train_cfg = staged(
    stage("teacher", epochs3, data=train_dataloader, **linear(2e-5)),
    stage("GD", epochs3, data=general, **constant(5e-5)),
    stage("GED", epochs3, data=general, **constant(5e-5)),
    stage("TAD", epochs3, data=train_dataloader, **constant(5e-5)),
    stage("TSD", epochs3, data=train_dataloader, **linear(3e-5)),
)
optim_wrapper = adam(5e-5)
param_scheduler = constant(5e-5)["param_scheduler"]
find_unused_parameters = True  # on several processes: one part learns at a time
how_to_get = dict(
    data="GLUE's MNLI as data/mnli/{train,dev_matched}.jsonl (text, pair, label a "
    "line), English text as data/wikipedia/general.jsonl (text a line), the hub "
    "snapshot google-bert/bert-base-uncased as data/bert-base-uncased"
)
