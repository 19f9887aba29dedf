# ERNIE-Tiny, BERT-base -> 4 x 312 on MNLI. The paper's optimizer and lengths were not
# found: lengths are 3 + 3 + 3 + 3 passes over MNLI in batches of 32, the optimizer is
# that of TinyBERT's task_distill.py: 5e-5 without a schedule for latent losses; 3e-5
# with a tenth of warm-up, then a line to 0, for the last; no decay of biases and norms.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import optimizer, poly, stage, staged, warm_up

bert = "data/bert-base-uncased"
corpus = dict(
    type="pld_mmdet.EncodedText", data_root="data/mnli", tokenizer=bert, max_length=128
)
loader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=dict(type="default_collate"),
)
general = dict(
    **loader, dataset=dict(corpus, data_root="data/wikipedia", ann_file="general.jsonl")
)
classes = ("entailment", "neutral", "contradiction")
train_dataloader = dict(
    **loader, dataset=dict(corpus, ann_file="train.jsonl", classes=classes)
)
val_dataloader = test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(corpus, ann_file="dev_matched.jsonl", classes=classes),
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.ERNIETiny",
    pretrained=dict(
        type="pld_mmdet.EncoderTransformer", task="MaskedLM", pretrained=bert
    ),
    # BERT-base until the stage `teacher` has trained it on the task
    finetuned=dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=3,
        pretrained=bert,
    ),
    student=dict(
        type="pld_mmdet.EncoderTransformer",
        task="SequenceClassification",
        num_classes=3,
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
        param_scheduler=[warm_up(1e-4, epochs3 // 10), poly(1.0, begin=epochs3 // 10)],
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
