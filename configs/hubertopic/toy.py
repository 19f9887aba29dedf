# HuBERTopic on synthetic speech: 12 units, 4 topics, 320 utterances of 1.2 s at 4 kHz.
# 24 clusters of MFCC frames, 4 topics by LDA, then a probe of the frozen encoder.
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, loaders, optimizer, poly, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table

train_dataloader, val_dataloader, test_dataloader = loaders(
    dict(type="pld_mmdet.TopicSpeech"),
    16,
    train=dict(part="train", size=320),
    val=dict(part="val", size=160),
    test=dict(part="test", size=480),
    eval_batch=32,
)
work_dataloader = loader(train_dataloader["dataset"], 32)
val_evaluator = test_evaluator = dict(type="pld_mmdet.SpeechProbeMetric")
val_cfg = test_cfg = dict()

model = dict(
    type="pld_mmdet.HuBERTopic",
    config=dict(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32, 32),
        conv_kernel=(20, 10),  # 110 samples every 80: 50 frames a second
        conv_stride=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        layerdrop=0.0,
    ),
    sample_rate=4000,
    clusters=24,
    num_topics=4,
    topic_weight=0.1,
    projection=32,
    # the published 10 presses the features to 0 within a run this short
    feature_penalty=0.1,
    feature_grad_scale=1.0,
    probe=(12, 4),
)
schedule = poly(1.0)
train_cfg = staged(
    stage("labels", 0, work=work_dataloader),
    stage("pretrain", 300, schedule=schedule),
    stage("probe", 100, optim=optimizer("Adam", 1e-2), schedule=schedule),
)
optim_wrapper = optimizer("Adam", 2e-3, betas=(0.9, 0.98), clip=10.0)
param_scheduler = schedule
find_unused_parameters = True  # on several processes: the readers rest, then learn

experiment = table(
    "hubertopic",
    row("plain", "HuBERT"),
    row("topic_only", "Topics only"),
    row("hubertopic", "HuBERTopic"),
    row(
        "mean_mfcc",
        "Mean MFCC, logistic regression",
        baseline=dict(
            type="raw_input",
            target="topics",
            features="pld_mmdet.audio.networks.features.mean_mfcc",
            geometry=dict(sample_rate=4000, window=110, hop=80),
            standardise=True,
            evaluator=dict(type="pld_mmdet.ClassificationMetric"),
        ),
    ),
    reported="encoder of the last iteration, read by a linear probe",
    columns={
        "topic of utterances": ("test", "accuracy"),
        "unit of frames": ("test", "unit_accuracy"),
    },
)
walk = [
    *lengths(None, 2, 1),
    "train_cfg.stages.0.work_dataloader.dataset.size=32",
    "train_dataloader.dataset.size=32",
    "train_dataloader.batch_size=4",
    *in_parts("dataset.size=4"),
]
