"""Short runs of a method's configs, in this process."""

import json
from itertools import count
from pathlib import Path

import torch
from mmengine.config import Config

from pld_mmdet.cli import build_runner
from pld_mmdet.experiments.options import parse_options

ROOT = Path(__file__).resolve().parents[2]
_NUMBER = count()


def load(config: str, work_dir: Path, options=(), iters: int | None = 2) -> Config:
    """A config of this repository, shortened as its ``walk`` says.

    Args:
        config: Path below ``configs``.
        work_dir: Where the run writes.
        options: More ``--cfg-options``.
        iters: Iterations; None leaves the loop alone.
    """
    cfg = Config.fromfile(ROOT / "configs" / config)
    loop = [] if iters is None else [f"train_cfg.max_iters={iters}"]
    cfg.merge_from_dict(parse_options([*cfg.get("walk", []), *loop, *options]))
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f"test_{next(_NUMBER)}"  # mmengine keys its hubs by it
    cfg.log_level = "ERROR"
    cfg.visualizer.name = cfg.experiment_name
    return cfg


def train(cfg: Config, resume: Path | None = None):
    """Train a config, perhaps from a checkpoint on; the runner."""
    if resume is not None:
        cfg.resume, cfg.load_from = True, str(resume)
    runner = build_runner(cfg)
    runner.train()
    return runner


def state(path: Path) -> dict:
    """The weights and buffers of a checkpoint."""
    return torch.load(path, weights_only=True)["state_dict"]


def check_toy(config: str, folder: Path, stop: int = 2) -> dict:
    """Train a toy config, go on from its middle bit for bit, load it strictly.

    Args:
        config: Path below ``configs``.
        folder: Where the runs write.
        stop: Iterations of the checkpoint that is resumed.

    Returns:
        The state after four iterations without interruption.
    """
    every = [
        f"default_hooks.checkpoint.{k}" for k in ("interval=1", "max_keep_ckpts=-1")
    ]
    whole = train(load(config, folder / "whole", every, iters=4))
    expected = state(folder / "whole/iter_4.pth")
    cfg = load(config, folder / "again", every, iters=4)
    again = train(cfg, resume=folder / f"whole/iter_{stop}.pth")
    assert again.iter == whole.iter == 4
    found = state(folder / "again/iter_4.pth")
    assert found.keys() == expected.keys()
    assert [k for k in expected if not torch.equal(found[k], expected[k])] == []
    fresh = build_runner(load(config, folder / "fresh")).model
    fresh.load_state_dict(expected, strict=True)
    assert all(torch.equal(v, expected[k]) for k, v in fresh.state_dict().items())
    return expected


def tiny_clip(folder: Path, image_size: int = 16) -> Path:
    """A random CLIP of a few thousand weights and a tokenizer of letters, on disk."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz."
    words = [*letters, *(f"{c}</w>" for c in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    files = {
        "vocab.json": json.dumps({word: i for i, word in enumerate(words)}),
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": json.dumps(
            dict(tokenizer_class="CLIPTokenizer", model_max_length=48)
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    small = dict(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    text = dict(
        small,
        vocab_size=len(words),
        max_position_embeddings=48,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    torch.manual_seed(0)
    vision = dict(small, image_size=image_size, patch_size=8)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    return folder
