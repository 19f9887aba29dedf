#!/usr/bin/env python
"""Say in one line a method what a short run of it computes, to the last bit.

Examples:
    python tools/net.py --out before.txt           # before the code is rearranged
    python tools/net.py --compare before.txt       # after it: exit 1 names what differs
    python tools/net.py --compare before.txt --only lpld ps_kd
    python tools/net.py --out before.txt --root ../old_checkout
    python tools/net.py --configs --root ../old_checkout --out before.txt
    python tools/net.py --configs --compare before.txt   # no run: what configs say

A line is a method's short config (`walk`, at least five iterations where its stages
allow it, seed 0), a detector through a detection method on eight drawn images, or
tools/adapt.py. Compare on one machine only: processors add in different orders. A
tensor that got another name is not a difference; a new tensor or a number that is gone
(a counter that moved) is told, and is none either.
"""

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))
import _net_configs as configs
import _net_detection as detection

ROOT = Path(__file__).resolve().parents[1]
STEPS = 5
SHOWN = 6  # differences named a line


# What a run leaves.


def digest(value) -> str:
    """Hash of one tensor: type, shape, bits."""
    import torch

    value = value.detach().cpu().contiguous()
    head = f"{value.dtype} {tuple(value.shape)}".encode()
    raw = (
        value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
    )
    return hashlib.sha256(head + raw).hexdigest()[:12]


def tensors(tree, name: str) -> dict:
    """All tensors of nested dicts and lists by path; scalars are marked with ``#``."""
    import torch

    if isinstance(tree, torch.Tensor):
        return {name + ("" if tree.dim() else "#"): digest(tree)}
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {}
    found = {}
    for key, value in items:
        found |= tensors(value, f"{name}.{key}")
    return found


def numbers(tree: dict) -> dict[str, str]:
    """Scalars of a dict as text that gives back every bit; times are left out."""
    found = {}
    for key, value in tree.items():
        if hasattr(value, "item") and getattr(value, "size", None) is not None:
            value = value.item() if _is_scalar(value) else digest(value)
        if isinstance(value, int | float | str) and "second" not in key:
            found[key] = repr(value)
    return found


def _is_scalar(value) -> bool:
    return (value.numel() if hasattr(value, "numel") else value.size) == 1


def watch(runner) -> dict:
    """Train, and return losses a step, metrics and the hash of every tensor."""
    from mmengine.hooks import Hook

    steps, results = [], []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            steps.append(numbers(outputs or {}))

        def after_val_epoch(self, runner, metrics=None):
            results.append(numbers(metrics or {}))

    runner.register_hook(Watch(), priority="LOWEST")
    runner.train()
    online = Path(runner.work_dir) / "online.json"
    if online.is_file():
        scored = json.loads(online.read_text())["metrics"]
        results.append({k: v for k, v in numbers(scored).items() if "/ms_" not in k})
    state = tensors(dict(runner.model.state_dict()), "model")
    state |= tensors(runner.optim_wrapper.state_dict(), "optimizer")
    for hook in runner.hooks:
        state |= tensors(vars(hook), type(hook).__name__)
    return dict(steps=steps, metrics=results, state=state)


# The methods' own short configs.


def walk(entry, folder: Path, root: Path) -> dict:
    """A method of the catalogue, as its config makes itself short."""
    from mmengine.config import Config, DictAction
    from mmengine.registry import RUNNERS

    cfg = Config.fromfile(root / entry.files["toy config"])
    if "walk_data" in cfg:
        words = [sys.executable, *shlex.split(cfg.walk_data)[1:]]
        (root / "data").mkdir(exist_ok=True)
        subprocess.run(words, cwd=root, check=True, capture_output=True)
    pairs = (option.partition("=") for option in cfg.walk)
    cfg.merge_from_dict({k: DictAction._parse_iterable(v) for k, _, v in pairs})
    lengthen(cfg.train_cfg)
    cfg.merge_from_dict({"randomness.seed": 0, "log_level": "ERROR"})
    cfg.work_dir = str(folder)
    return watch(RUNNERS.build(cfg))


def lengthen(train_cfg: dict) -> None:
    """Five iterations in all, by a longer last stage if there are stages."""
    stages = [s for s in train_cfg.get("stages", [train_cfg]) if s.get("max_iters")]
    if stages:
        missing = STEPS - sum(s.max_iters for s in stages)
        stages[-1].max_iters += max(missing, 0)


def adapted(folder: Path, root: Path) -> dict:
    """tools/adapt.py on the drawn images."""
    state, history = detection.adapt(folder, root, STEPS)
    metrics = [numbers(row) for row in history]
    return dict(steps=[], metrics=metrics, state=tensors(state, "model"))


def lines(root: Path) -> dict[str, Callable[[Path, Path], dict]]:
    """All lines by name."""
    from pld_mmdet.catalogue import entries

    toys = {
        entry.stem: lambda folder, root, entry=entry: walk(entry, folder, root)
        for entry in entries()
        if (root / entry.files["toy config"]).is_file() and entry.family != "detection"
    }

    def of(config: str, detector=None, **options):
        def line(folder: Path, root: Path) -> dict:
            return watch(detection.runner(config, folder, root, detector, **options))

        return line

    teacher = "mean_teacher/foggy_streets"
    low = dict(hpl_threshold=0.5)
    semi = dict(min_score=0.2, rpn_threshold=0.3, cls_threshold=0.3)
    return toys | {
        "mean_teacher": of(teacher, **low),
        "cascade": of(teacher, detection.cascade, **low),
        "retinanet": of(teacher, detection.retinanet, hpl_threshold=0.7),
        "detr": of(teacher, detection.detr, hpl_threshold=0.7),
        "sf_ut": of("sf_ut/foggy_streets", **low),
        "lpld": of("lpld/foggy_streets", **low, lpl_min_certainty=0.3),
        "lpld_sf_ut": of("sf_ut/lpld_foggy_streets", **low, lpl_min_certainty=0.3),
        "lpld_cascade": of(
            "lpld/foggy_streets", detection.cascade, **low, lpl_min_certainty=0.3
        ),
        "soft_teacher": of("soft_teacher/streets_5pct", **semi, reg_threshold=0.5),
        "dual_polish": of("dual_polish/streets_5pct", **semi, polish_threshold=0.3),
        "marvel_ovd": of("marvel_ovd/streets", burn_in=1, threshold=0.1),
        "ps_ttl": of("ps_ttl/streets_3shot", known_threshold=0.3),
        "adapt": adapted,
    }


# Running and comparing.


def run_line(name: str, line: Callable, root: Path) -> dict:
    """One line in a process of its own, so that no line sees another's registries."""
    with tempfile.TemporaryDirectory(prefix=f"net_{name}_") as folder:
        answer = Path(folder) / "answer.json"
        process = multiprocessing.get_context("fork").Process(
            target=_child, args=(line, Path(folder), root, answer)
        )
        process.start()
        process.join()
        if not answer.is_file():
            said = (Path(folder) / "said.txt").read_text(errors="replace")
            return dict(failed=said[-3000:] or f"ended with {process.exitcode}")
        return json.loads(answer.read_text())


def _child(line: Callable, folder: Path, root: Path, answer: Path) -> None:
    with open(folder / "said.txt", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(root)
    work = folder / "work"
    work.mkdir()
    try:
        answer.write_text(json.dumps(line(work, root)))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # mmengine's and the data loader's exit hooks belong to the parent


def summary(name: str, found: dict) -> str:
    """The line that is printed."""
    if "failed" in found:
        return f"{name:20} FAILED\n{found['failed']}"
    rows = [
        {k: float(v) for k, v in step.items() if v[:1] not in "'\""}
        for step in found["steps"] or found["metrics"]
    ]
    losses = [row.get("loss", next(iter(row.values()), 0.0)) for row in rows]
    state = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    shown = " ".join(f"{loss:.6g}" for loss in losses[:STEPS])
    return f"{name:20} {len(rows)} steps  {shown}  {state[:12]}"


def differences(before: dict, after: dict) -> tuple[list[str], list[str]]:
    """What makes two records of a line unequal, and what is only worth telling."""
    if "failed" in before or "failed" in after:
        return ["failed"], []
    found = [
        f"{kind} {n + 1}: {key} was {old.get(key)}, is {new.get(key)}"
        for kind in ("steps", "metrics")
        for n, (old, new) in enumerate(zip(before[kind], after[kind], strict=False))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and key in old
    ]
    names = [
        {key for row in record["metrics"] for key in row} for record in (before, after)
    ]
    told = [f"the metric {key} is new" for key in sorted(names[1] - names[0])]
    for kind in ("steps", "metrics"):
        if len(before[kind]) != len(after[kind]):
            found.append(f"{len(before[kind])} {kind}, now {len(after[kind])}")
    old, new = before["state"], after["state"]
    lost = {k: v for k, v in old.items() if new.get(k) != v}
    gained = {k: v for k, v in new.items() if old.get(k) != v}
    spare = Counter(gained.values())
    for key, value in lost.items():
        if spare[value]:
            spare[value] -= 1
        elif key.endswith("#") and key not in new:
            told.append(f"the number {key} is gone")
        else:
            found.append(f"{key} {'differs' if key in new else 'is gone'}")
    for key in gained:
        if key not in old and spare[gained[key]]:
            spare[gained[key]] -= 1
            told.append(f"{key} is new")
    return found, told


def compare_configs(args: argparse.Namespace, root: Path) -> int:
    """Resolve every published config, print, write, compare; nothing is run."""
    paths = [
        path
        for path in configs.published(root)
        if not args.only or path.split("/")[1] in args.only
    ]
    found = {path: configs.resolve(root, path) for path in paths}
    bad = [path for path in paths if "failed" in found[path]]
    for path in bad:
        print(f"{path}: {found[path]['failed']}")
    if args.compare:
        before = json.loads(args.compare.read_text())
        gone = [] if args.only else [path for path in before if path not in found]
        bad = [*bad, *gone]
        for path in paths:
            if path not in before:
                print(f"{path}: not in the file that is compared with")
                continue
            unequal, told = configs.differences(before[path], found[path])
            for text in [*unequal[:SHOWN], *told[:SHOWN]]:
                print(f"{path}: {text}")
            bad += [path] if unequal and path not in bad else []
    return finish(args, found, bad)


def finish(args: argparse.Namespace, found: dict, bad: list[str]) -> int:
    """Write what was found, and say in the last line whether all is well."""
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    word = "DIFFERENT" if args.compare else "FAILED"
    print(f"{word}: {' '.join(bad)}" if bad else f"{len(found)} lines, all well")
    return 1 if bad else 0


def main(args: argparse.Namespace) -> int:
    """Run, print, write, compare."""
    root = args.root.resolve()
    sys.path.insert(0, str(root))
    os.chdir(root)
    if args.configs:
        return compare_configs(args, root)
    known = lines(root)
    wrong = sorted({*args.only} - {*known})
    if wrong:
        print(f"error: no line {', '.join(wrong)}\nfix:   one of {' '.join(known)}")
        return 2
    for name in ("mmdet.models", "mmengine.runner", "pld_mmdet"):
        importlib.import_module(name)  # once, for all children

    before = json.loads(args.compare.read_text()) if args.compare else {}
    found, bad = {}, []
    for name in args.only or known:
        found[name] = run_line(name, known[name], root)
        print(summary(name, found[name]), flush=True)
        if args.compare:
            if name not in before:
                print("    not in the file that is compared with")
                continue
            unequal, told = differences(before[name], found[name])
            for text in [*unequal[:SHOWN], *told[:SHOWN]]:
                print(f"    {text}")
            bad += [name] if unequal else []
        elif "failed" in found[name]:
            bad.append(name)
    return finish(args, found, bad)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="FILE", help="write what was found")
    add("--compare", type=Path, metavar="FILE", help="an earlier --out")
    add("--only", nargs="+", default=[], metavar="LINE", help="some lines [all]")
    add("--configs", action="store_true", help="configs; --only takes their folders")
    add("--root", type=Path, default=ROOT, help="checkout that is run [this one]")
    arguments = parser.parse_args()
    for name in ("out", "compare"):
        path = getattr(arguments, name)
        setattr(arguments, name, path.resolve() if path else None)
    if arguments.out and os.path.lexists(arguments.out):
        parser.error(f"--out {arguments.out} exists; name another file")
    return arguments


if __name__ == "__main__":
    sys.exit(main(parse_args()))
