"""The numbers of published configs beside the authors' own (``paper_pins.csv``).

A row is ``config, what, key, value, source``: the key is a dotted path into the config,
the value is what stands in the source (a file of the authors' repository). Two kinds
of values are not read off the config: ``batch`` is images x processes (x accumulated
iterations), where the processes are those of the command that the docs or the config
name; ``size`` of a network's config is its millions of parameters.
"""

import csv
import inspect
import re
from ast import literal_eval
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from pld_mmdet.engine.config.arguments import check_arguments
from pld_mmdet.engine.config.configs import check_numbers
from pld_mmdet.engine.config.preflight import check_settings

ROOT = Path(__file__).resolve().parent.parent
#: What is pinned of every published config.
EVERY = {
    "optimizer", "rate", "decay", "momentum", "schedule", "batch", "length", "size"
}  # fmt: skip


@cache
def pins() -> dict[str, list[dict]]:
    """The rows of each config."""
    found: dict[str, list[dict]] = {}
    with open(ROOT / "tests/paper_pins.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(f"configs/{row['config']}.py", []).append(row)
    return found


def lookup(cfg: Config, key: str) -> object:
    """What a config holds; an optimizer's missing argument is its class's default."""
    value, parts = cfg, key.split(".")
    for place, part in enumerate(parts):
        if isinstance(value, list | tuple):
            if part.isdigit():
                value = value[int(part)]
                continue
            (value,) = (one for one in value if one["type"].endswith(f".{part}"))
        elif part in value:
            value = value[part]
        elif (rest := ".".join(parts[place : place + 2])) in value:  # `pool.0`
            value, parts[place + 1] = value[rest], ""
        elif part == "":
            continue
        elif parts[place - 1] == "optimizer":
            arguments = inspect.signature(getattr(torch.optim, value["type"]))
            value = arguments.parameters[part].default
        elif part == "begin" and "param_scheduler" in parts:
            return 0  # mmengine's default
        else:
            return None
    return value


def plain(value: object) -> object:
    """Lists for tuples, dicts for config dicts: what a literal can be compared to."""
    if isinstance(value, dict | ConfigDict):
        said = {name: plain(one) for name, one in value.items()}
        return {
            n: one for n, one in said.items() if (n, one) != ("begin", 0)
        }  # default
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def processes(config: str, cfg: Config) -> set[int]:
    """Of the commands that start a config, in the docs and in its own comments."""
    texts = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    texts.append((ROOT / config).read_text("utf-8"))
    name = re.escape(config)
    found = re.findall(rf"dist_train\.sh {name} (\d+)", "\n".join(texts))
    alone = re.search(rf"tools/train\.py {name}", "\n".join(texts))
    return {int(number) for number in found} | ({1} if alone else set()) or {1}


def millions(config: dict, scope: str) -> float:
    """Parameters of a network, which is built without memory."""
    config = ConfigDict({"_scope_": scope, **config})
    with torch.device("meta"):
        network = MODELS.build(config)
    return sum(p.numel() for p in network.parameters()) / 1e6


def check(config: str) -> None:
    """All pins of one published config, and that a run of it would begin.

    Raises:
        AssertionError: One does not hold, or something of :data:`EVERY` has none.
    """
    rows = pins().get(config, [])
    lacks = EVERY - {row["what"] for row in rows}
    assert not lacks, f"tests/paper_pins.csv has no {sorted(lacks)} of {config}"
    cfg = Config.fromfile(ROOT / config)
    check_numbers(cfg)  # what `tools/train.py` refuses is no published setting
    check_arguments(cfg)
    if "train_cfg" in cfg:
        check_settings(cfg)
    wrong = []
    for row in rows:
        assert row["source"], f"{config}: {row['key']} has no source"
        found, wanted = lookup(cfg, row["key"]), row["value"]
        if row["what"] == "batch":
            images, *others = map(int, wanted.split(" x "))
            counted = processes(config, cfg)
            accumulated = cfg.get("optim_wrapper", {}).get("accumulative_counts", 1)
            right = found == images and counted == {others[0]}
            right &= accumulated == (others[1] if len(others) > 1 else 1)
            found = f"{found} x {counted} x {accumulated}"
        elif row["what"] == "size" and isinstance(found, dict) and wanted[0] != "{":
            detection = row["key"].startswith("model.detector")
            scope = "mmdet" if detection else "pld_mmdet"
            scope = "mmseg" if found["type"].startswith("mmseg.") else scope
            found = millions(found, scope)
            right = found == pytest.approx(float(wanted), abs=5e-3)
        else:
            wanted, found = plain(literal_eval(wanted)), plain(found)
            right = found == pytest.approx(wanted) if _number(wanted) else (
                found == wanted
            )  # fmt: skip
        if not right:
            wrong.append(f"{row['key']}: {found}, {row['source']} has {wanted}")
    assert not wrong, f"{config}\n" + "\n".join(wrong)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
