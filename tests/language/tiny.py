"""Tiny encoders, batches and folders that the tests of the language family share."""

import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, BertTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "so"]


def body(layers: int = 4, width: int = 8, **more) -> dict:
    """A BERT's config without dropout."""
    return dict(
        model_type="bert",
        vocab_size=30,
        max_position_embeddings=8,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ) | dict(more)


def encoder(task: str = "SequenceClassification", **options) -> dict:
    """Config of an encoder, three classes."""
    classes = {} if task == "MaskedLM" else {"num_classes": 3}
    kind = "pld_mmdet.EncoderTransformer"
    return dict(type=kind, task=task, config=body(**options), **classes)


IDS = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0], [1, 4, 8, 5, 2]])
GENERAL = dict(input_ids=IDS, attention_mask=(IDS > 0).long())
TASK = dict(**GENERAL, targets=torch.tensor([0, 2, 1]))


def bert_folder(folder: Path, **options) -> str:
    """Weights and a tokenizer on disk, as a user has them."""
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    name = str(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(name)
    config = AutoConfig.for_model(**body(**{"vocab_size": len(WORDS), **options}))
    AutoModelForMaskedLM.from_config(config).save_pretrained(name)
    return name


def jsonl(path: Path, lines: list[dict]) -> None:
    """One object a line."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def shortened(cfg, folder: Path, tokenizer: str) -> list:
    """A published config on a user's files: small batches, two steps a stage.

    Returns:
        Its loaders.
    """
    stages = cfg.train_cfg.stages
    keys = ("dataloader", "work_dataloader")
    loaders = [stage[key] for stage in stages for key in keys if stage.get(key)]
    loaders += [cfg[f"{part}_dataloader"] for part in ("train", "val", "test")]
    for loader in loaders:
        loader.update(batch_size=2, num_workers=0)
        loader.pop("persistent_workers", None)
        loader.dataset.update(data_root=str(folder), tokenizer=tokenizer, max_length=8)
    for one in (cfg, *stages):
        if "optim_wrapper" in one:  # float16 is for GPUs
            one.optim_wrapper.type = "pld_mmdet.FiniteOptimWrapper"
    for stage in stages:
        stage.max_iters = min(stage.max_iters, 2)
    for holder in (cfg, *stages):
        for one in holder.get("param_scheduler", []):
            if one["type"] == "LinearLR":
                one["end"] = 1
            elif one.get("begin"):
                one["begin"] = 1
    return loaders


def with_gradient(net) -> set[str]:
    """Names of the parts that have a gradient."""
    return {
        name.partition(".")[0]
        for name, p in net.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
