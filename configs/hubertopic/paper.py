# HuBERTopic at the size of HuBERT base, second iteration: 500 units from layer 6 of a
# HuBERT of the first. The recipe is HuBERT's public one (fairseq's
# hubert_base_librispeech.yaml and learn_kmeans.py); lambda and the number of topics
# were not found in any source. On 32 processes:
# tools/dist_train.sh configs/hubertopic/paper.py 32
_base_ = "../_base_/toy_runtime.py"

waves = dict(
    type="pld_mmdet.WaveFiles",
    data_root="data/librispeech",
    ann_file="train_960.txt",
    normalise=False,
)
train_dataloader = dict(
    batch_size=6,  # about 90 s a GPU, 32 GPUs
    num_workers=4,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="pld_mmdet.SeededDataset", dataset=dict(**waves, size=250000)),
)
work_dataloader = dict(
    batch_size=1,  # whole files, of any length
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(**waves, size=None),
)
model = dict(
    type="pld_mmdet.HuBERTopic",
    # HubertConfig's defaults are HuBERT base but for these, which its training had
    config=dict(activation_dropout=0.0, layerdrop=0.05, feat_proj_dropout=0.1),
    clusters=500,
    num_topics=10,
    topic_weight=0.1,
    labeller="data/hubert-base-iteration1",  # None: MFCC, the first iteration
    labeller_layer=6,
    # Theirs fits on a tenth of the frames, 17 millions; these are 6 GB.
    kmeans=dict(
        fit_frames=2_000_000,
        standardise=False,
        batch_size=10000,
        n_init=20,
        max_iter=100,
        tol=0.0,
        max_no_improvement=100,
        reassignment_ratio=0.0,
    ),
)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    # fairseq's `adam` takes the decay from the weights, not from the gradient
    optimizer=dict(
        type="AdamW", lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, begin=0, end=32000, by_epoch=False),
    dict(type="PolyLR", power=1.0, eta_min=0.0, begin=32000, by_epoch=False),
]
train_cfg = dict(
    type="pld_mmdet.StagedLoop",
    stages=[
        dict(name="labels", max_iters=0, work_dataloader=work_dataloader),
        dict(name="pretrain", max_iters=400000),
    ],
)
find_unused_parameters = True  # the layers that LayerDrop leaves out
how_to_get = dict(
    data="LibriSpeech as mono 16-bit WAV files of 16 kHz (ffmpeg -i IN.flac OUT.wav) "
    "below data/librispeech, their paths a line in train_960.txt; a HuBERT of the "
    "first iteration (this config with model.labeller=None, model.clusters=100) saved "
    "with encoder.save_pretrained('data/hubert-base-iteration1')"
)
