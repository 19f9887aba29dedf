# A synthetic language with topics and synonyms: 4000 sentences without labels to
# pre-train on, 200 labelled ones of the task; 300 val, 1000 test.
_base_ = "../metrics/accuracy_val.py"
from pld_mmdet.recipes import loader

general_dataloader = loader(
    dict(type="pld_mmdet.TopicGrammar", part="general", size=4000), 16, train=True
)
train_dataloader = loader(
    dict(type="pld_mmdet.TopicGrammar", part="task", size=200), 16, train=True
)
val_dataloader = loader(dict(type="pld_mmdet.TopicGrammar", part="val", size=300), 100)
test_dataloader = loader(
    dict(type="pld_mmdet.TopicGrammar", part="test", size=1000), 100
)
