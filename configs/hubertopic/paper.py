# HuBERTopic at the size of HuBERT base, second iteration: 500 units from layer 6 of a
# HuBERT of the first. The recipe is HuBERT's public one (fairseq's
# hubert_base_librispeech.yaml and learn_kmeans.py); lambda and the number of topics
# were not found in any source. On 32 processes:
# tools/dist_train.sh configs/hubertopic/paper.py 32
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader, optimizer, rise_and_fall, stage, staged

waves = dict(
    type="pld_mmdet.WaveFiles",
    data_root="data/librispeech",
    ann_file="train_960.txt",
    normalise=False,
)
four = dict(workers=4, persistent=False)
train_dataloader = loader(
    dict(**waves, size=250000),
    6,  # about 90 s a GPU, 32 GPUs
    train=True,
    seeded=True,
    **four,
)
# whole files, of any length
work_dataloader = loader(dict(**waves, size=None), 1, **four)
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
optim_wrapper = optimizer(
    # fairseq's `adam` takes the decay from the weights, not from the gradient
    "AdamW",
    5e-4,
    betas=(0.9, 0.98),
    eps=1e-6,
    weight_decay=0.01,
    clip=10.0,
)
param_scheduler = rise_and_fall(32000)
train_cfg = staged(stage("labels", 0, work=work_dataloader), stage("pretrain", 400000))
find_unused_parameters = True  # the layers that LayerDrop leaves out
how_to_get = dict(
    data="LibriSpeech as mono 16-bit WAV files of 16 kHz (ffmpeg -i IN.flac OUT.wav) "
    "below data/librispeech, their paths a line in train_960.txt; a HuBERT of the "
    "first iteration (this config with model.labeller=None, model.clusters=100) saved "
    "with encoder.save_pretrained('data/hubert-base-iteration1')"
)
