# The student alone, fine-tuned on the 200 labels.
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/topic_grammar.py"]
from pld_mmdet.recipes import optimizer, poly

student = dict(
    type="pld_mmdet.EncoderTransformer",
    task="SequenceClassification",
    num_classes=6,
    config=dict(
        model_type="bert",
        vocab_size=196,
        max_position_embeddings=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    ),
)
model = dict(type="pld_mmdet.TextClassifier", network=student)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400, val_interval=400)
optim_wrapper = optimizer("AdamW", 2e-3, weight_decay=0.01, clip=1.0)
param_scheduler = poly(1.0, end=400)
