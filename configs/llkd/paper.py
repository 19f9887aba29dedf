# LLKD, LLaMA -> RoBERTa on PubMed-RCT-20k. Neither code nor the paper's text was found:
# optimizer, length and prompt are ours.
# 1 GPU: python tools/train.py configs/llkd/paper.py
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]
from pld_mmdet.recipes import loader, stage, staged
from pld_mmdet.recipes.language import adamw, causal, classifier

roberta, llama = "data/roberta-base", "data/llama-2-7b"
sentences = dict(
    type="pld_mmdet.EncodedText",
    data_root="data/pubmed-rct-20k",
    tokenizer=roberta,
    max_length=128,
    classes=("background", "objective", "methods", "results", "conclusions"),
)
unlabelled = dict(**sentences, ann_file="train.jsonl", with_text=True)
train_dataloader = loader(unlabelled, 32, train=True, workers=2)
val_dataloader = loader(dict(**sentences, ann_file="val.jsonl"), 64)
test_dataloader = loader(dict(**sentences, ann_file="test.jsonl"), 64)
model = dict(
    type="pld_mmdet.LLKD",
    teacher=dict(
        type="pld_mmdet.LabelWordClassifier",
        network=causal(llama, dtype="bfloat16"),
        tokenizer=llama,
        words=("Background", "Objective", "Methods", "Results", "Conclusions"),
        template="Sentence of an abstract: {text}\nIts part:",
        demonstrations="data/pubmed-rct-20k/demonstrations.txt",
    ),
    student=classifier(5, pretrained=roberta),
    samples=180040,
    num_classes=5,
    keep=0.9,
)
train_cfg = staged(stage("student", 16878, work=loader(unlabelled, 16)))  # 3 passes
optim_wrapper = adamw(2e-5, half="bfloat16")
param_scheduler = []
how_to_get = dict(
    data="write PubMed 20k RCT (Franck-Dernoncourt/pubmed-rct) as data/pubmed-rct-20k/"
    "{train,val,test}.jsonl (one object with `text` a line, in val and test also "
    "`label` 0 to 4 in the order of the classes) and some sentences with their part in "
    "the template's form as demonstrations.txt; get FacebookAI/roberta-base and "
    "meta-llama/Llama-2-7b-hf into data/"
)
