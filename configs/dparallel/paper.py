# dParallel, LLaDA-8B-Instruct (authors' code, 2ca4d14, LLaDA/). Its answers are written
# beforehand; LLaDA is a Llama in which every token sees every other one.
# 8 GPUs: bash tools/dist_train.sh configs/dparallel/paper.py 8
_base_ = "../_base_/toy_runtime.py"
from pld_mmdet.recipes import loader
from pld_mmdet.recipes.language import adamw

llada = "data/llada-8b-instruct-llama"
train_dataloader = loader(
    dict(
        type="pld_mmdet.AnswerText",
        data_root="data/dparallel",
        ann_file="train.jsonl",
        tokenizer=llada,
        length=384,
    ),
    1,
    train=True,
    workers=4,
    epochs=True,
)
model = dict(
    type="pld_mmdet.DParallel",
    network=dict(
        type="pld_mmdet.BidirectionalTransformer", pretrained=llada, dtype="bfloat16"
    ),
    mask_id=126336,
    block=32,
    weight=2.0,
    lora=dict(
        r=128,
        lora_alpha=128,
        lora_dropout=0.0,
        # Their list has o, gate and down too, which have other names in LLaDA's own
        # code (attn_out, ff_proj, ff_out) and so never got an adapter.
        target_modules=[f"{part}_proj" for part in ("q", "k", "v", "up")],
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=6)
log_processor = dict(by_epoch=True)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
optim_wrapper = adamw(2e-5, half="bfloat16", clip=1.0, accumulative_counts=8)
param_scheduler = []
how_to_get = dict(
    data="write Zigeng/dParallel_LLaDA_Distill_Data as data/dparallel/train.jsonl (one "
    "object with `messages`, question and llm_response, a line); get "
    "GSAI-ML/LLaDA-8B-Instruct and rename its weights to those of a LlamaForCausalLM, "
    "with a config.json of that kind, as data/llada-8b-instruct-llama"
)
