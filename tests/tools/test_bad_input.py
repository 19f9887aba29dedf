"""Every tool, every option, values that mean nothing: two lines and exit code 2.

The tools are called in this process, exactly as their files run.
"""

import argparse
import json
import math
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from pld_mmdet import cli
from pld_mmdet.values import Number

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(
    path.stem
    for path in (ROOT / "tools").glob("*.py")
    if not path.stem.startswith("_") and "ToolParser" in path.read_text("utf-8")
)
OWN = {"net"}  # for developers, of another make


def call(tool: str, *arguments) -> int:
    """Run ``python tools/TOOL.py ARGUMENTS`` here; its exit code."""
    before = sys.argv
    sys.argv = [f"tools/{tool}.py", *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = before
    return 0


def sentence(capsys, tool: str, *arguments, code: int = 2) -> str:
    """What a tool says when it refuses; two lines and nothing else on stderr."""
    capsys.readouterr()
    ended = call(tool, *arguments)
    said = capsys.readouterr().err.strip()
    lines = [line for line in said.splitlines() if "Warning" not in line]
    assert ended == code, (arguments, said)
    assert "Traceback" not in said
    assert lines[-2].startswith("error: "), said
    assert lines[-1].startswith("fix:   "), said
    return said


def parser_of(tool: str, monkeypatch) -> cli.ToolParser:
    """The parser that a tool makes."""
    found = []

    class Made(Exception):
        pass

    def keep(self, args=None, namespace=None):
        found.append(self)
        raise Made

    with monkeypatch.context() as patch:
        patch.setattr(cli.ToolParser, "parse_args", keep)
        script = runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="tool")
        with pytest.raises(Made):
            (script.get("parse_args") or script["main"])()
    return found[0]


def parsers(parser, words=()):
    """A parser and those of its commands, with the words that lead to them."""
    commands = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not commands:
        yield list(words), parser
    for action in commands:
        for name, inner in action.choices.items():
            yield from parsers(inner, [*words, name])


def bad_numbers(kind: Number) -> list[str]:
    values = ["", "x", "nan", "inf", "-inf", "1e999", "0x10", "--", "١٢x"]
    if kind.whole:
        values += ["2.5", "1e3"]
    if math.isfinite(kind.low):
        values += [str(int(kind.low) - 1), "-99999999999999999999"]
        values += ["0"] if kind.above and kind.low == 0 else []
    if math.isfinite(kind.high):
        values += [str(int(kind.high) + 1), "9" * 30]
    return values


def bad_values(action, folder: Path) -> list[str]:
    if action.option_strings and action.nargs in ("+", "*", "?"):
        return ["--", *bad_texts(action, folder)]
    return bad_texts(action, folder)


HALF = "stra\udcdfe"  # how a name that is no UTF-8 arrives


def bad_texts(action, folder: Path) -> list[str]:
    if isinstance(action.type, Number):
        return bad_numbers(action.type)
    if action.choices is not None:
        return ["", "nonsense", "7"]
    if action.type is cli.input_file:
        return ["", " ", HALF, str(folder)]
    if action.type is cli.input_folder:
        return ["", " ", HALF]
    if action.type is cli.output_file:
        return ["", str(folder), str(folder / "file" / "below" / "it")]
    if action.type is cli.output_folder:
        return ["", HALF, str(folder / "file"), str(folder / "file" / "below")]
    if action.type in (None, Path) and action.nargs != argparse.REMAINDER:
        return ["", " ", "\t", HALF]
    return []


def good_value(action, folder: Path) -> str:
    if isinstance(action.type, Number):
        return str(next(v for v in (1, 0) if action.type.problem(v) is None))
    if action.choices is not None:
        return str(next(iter(action.choices)))
    return str(folder / "new" if action.type is cli.output_file else "given")


def command(parser, chosen, value, folder: Path) -> list[str]:
    """A command line that is right except for one value."""
    words, places, done = [], [], set()
    for action in parser._actions:
        if action is chosen:
            continue
        count = action.nargs if isinstance(action.nargs, int) else 1
        group = next(
            (
                g
                for g in parser._mutually_exclusive_groups
                if action in g._group_actions
            ),
            None,
        )
        needed = action.required or (group is not None and group.required)
        if not needed or id(group) in done:
            continue
        if group is not None:
            done.add(id(group))
            if chosen in group._group_actions:
                continue
        values = [good_value(action, folder)] * count
        if action.option_strings:
            words += [action.option_strings[-1], *values]
        else:
            places.append((action, values))
    if chosen.option_strings:
        count = chosen.nargs if isinstance(chosen.nargs, int) else 1
        name = chosen.option_strings[-1]
        given = [f"{name}={value}"] if count == 1 else [name, *([value] * count)]
        return [*(v for _, values in places for v in values), *words, *given]
    order = [a for a in parser._actions if not a.option_strings]
    filled = {id(a): v for a, v in places}
    line = []
    for action in order:
        line += [value] if action is chosen else filled.get(id(action), [])
    return [*line, *words]


def test_the_table_covers_the_tools():
    names = {p.stem for p in (ROOT / "tools").glob("*.py") if p.stem[0] != "_"}
    assert names - set(TOOLS) <= OWN
    assert len(TOOLS) >= 19


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_refuses_what_means_nothing(tool, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("a file")
    tried = 0
    for words, parser in parsers(parser_of(tool, monkeypatch)):
        for action in parser._actions:
            if action.nargs == 0 or isinstance(action, argparse._SubParsersAction):
                continue
            # one place says which numbers mean something: pld_mmdet.values
            plain = action.type in (int, float) and action.choices is None
            assert not plain or "--local-rank" in action.option_strings, (tool, action)
            for value in bad_values(action, tmp_path):
                line = [*words, *command(parser, action, value, tmp_path)]
                said = sentence(capsys, tool, *line)
                name = (action.option_strings or [action.metavar or action.dest])[0]
                assert (
                    name.lstrip("-").lower().replace("_", "-")
                    in (said.lower().replace("_", "-"))
                    or value == "--"
                ), (line, said)
                tried += 1
    said = sentence(capsys, tool, "--no-such-option", "7")
    assert tried or tool in ("doctor", "list_methods", "new_method", "prepare")


def test_a_misspelt_option_names_the_nearest(capsys):
    said = sentence(capsys, "adapt", "a", "b", "c", "--thresold", "0.3")
    assert "Did you mean --threshold?" in said
    said = sentence(capsys, "adapt", "a", "b", "c", "--threshold", "7")
    assert (
        "'7'" in said or "7.0 is not a finite number from 0 to 1 (nearest: 1)" in said
    )


CONFIGS = {
    "syntax.py": "model = dict(type='A'\nlr = 3",
    "raises.py": "lr = 1\nmodel = dict(lr=lr, a=nothing)",
    "imports.py": "import no_such_library_at_all",
    "base.py": "_base_ = ['nowhere.py']",
    "binary.py": b"\x89PNG\r\n\x1a\n\x00\x01\xff",
    "null.py": b"model = 1\x00",
    "list.json": "[1, 2]",
    "broken.json": '{"model": ',
    "broken.yml": "model: [1, 2",
    "text.txt": "model",
    "weights.pth": b"PK\x03\x04",
    "exits.py": "raise SystemExit(7)",
    "empty.py": "",
    "number.py": "model = 7",
}
# tool -> its command line around a config
WITH_CONFIG = {
    "train": ["{config}", "--work-dir", "{folder}/run"],
    "test": ["{config}", "{weights}", "--work-dir", "{folder}/run"],
    "adapt": ["{config}", "{weights}", "{folder}", "--out", "{folder}/run"],
    "export": ["{weights}", "{folder}/out.pth", "--config", "{config}"],
    "convert_detectron2": ["{weights}", "{config}", "{folder}/out.pth"],
    "measure_pseudo_labels": ["{config}", "{weights}"],
    "browse_pseudo_labels": ["{config}", "{weights}", "{folder}"],
    "check_data": ["{config}"],
    "sample": ["{weights}", "--config", "{config}", "--out", "{folder}/run"],
    "reproduce": ["{config}", "--out", "{folder}/run"],
}


@pytest.mark.parametrize("tool", sorted(WITH_CONFIG))
def test_what_is_no_config_is_a_sentence(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "chdir", lambda path: None)  # reproduce goes to the root
    weights = tmp_path / "w.pth"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, weights)
    for name, content in CONFIGS.items():
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        fill = dict(config=path, weights=weights, folder=tmp_path)
        line = [word.format(**fill) for word in WITH_CONFIG[tool]]
        said = sentence(capsys, tool, *line)
        if name == "syntax.py":
            assert "line 1" in said, said
        if name == "raises.py":
            assert "nothing" in said, said
        if name == "weights.pth":
            assert "is a file of weights" in said, said
    line = [
        word.format(config=tmp_path / "none.py", weights=weights, folder=tmp_path)
        for word in WITH_CONFIG[tool]
    ]
    assert "does not exist" in sentence(capsys, tool, *line)


JSON = ["", "{", "[1, 2]", "7", '{"categories": 3}', '{"categories": [{"id": 1}]}']
JSON += ['{"categories": [], "images": [{}], "annotations": [1]}', "[" * 50_000]


def test_broken_json_is_a_sentence(tmp_path, capsys):
    weights, path = tmp_path / "w.pth", tmp_path / "a.json"
    meta = {"dataset_meta": {"classes": ("a",)}}
    torch.save({"state_dict": {"a": torch.zeros(2)}, "meta": meta}, weights)
    out = tmp_path / "out"
    for text in JSON:
        path.write_text(text)
        images = ["--novel", "a", "--images", tmp_path]
        clip = ["--clip", tmp_path, "--ann", path, "--out", out]
        for tool, line in (
            ("make_fewshot", ["extend", weights, out, "--classes", path]),
            ("make_clip_candidates", ["text", *clip]),
            (
                "make_clip_candidates",
                ["boxes", *clip, *images, "--proposals", path],
            ),
        ):
            sentence(capsys, tool, *line)
    assert not out.exists()


def test_hostile_files_of_a_run_are_a_sentence(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for text in [*JSON, '{"rows": 3}', '{"rows": [{"name": 3}]}', '{"name": "a"}']:
        (run / "result.json").write_text(text)
        sentence(capsys, "report", run)
    (run / "result.json").unlink()
    for text in JSON:
        (run / "scores.jsonl").write_text(text + "\n")
        sentence(capsys, "score_checkpoints", run, "--recorded")


def test_outputs_that_are_inputs_are_refused_by_every_tool(tmp_path, capsys):
    weights, other = tmp_path / "w.pth", tmp_path / "c.py"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, weights)
    other.write_text("model = dict()")
    before = weights.read_bytes(), other.read_text()
    for tool, *line in (
        ("export", weights, weights),
        ("export", weights, other, "--config", other),
        ("convert_detectron2", weights, other, weights),
        ("convert_detectron2", weights, other, tmp_path / "." / "c.py"),
        ("test", other, weights, "--out-metrics", weights),
        ("measure_pseudo_labels", other, weights, "--out", other),
        ("make_fewshot", "extend", weights, weights, "--classes", other),
        ("make_clip_candidates", "text", "--clip", "x", "--ann", other, "--out", other),
        ("adapt", other, weights, tmp_path, "--out", tmp_path),
        ("browse_pseudo_labels", other, weights, tmp_path, "--out", tmp_path),
    ):
        assert "is also read" in sentence(capsys, tool, *line)
    assert (weights.read_bytes(), other.read_text()) == before


def test_a_baseline_overwrites_no_training_run(tmp_path, capsys):
    (tmp_path / "iter_3.pth").write_bytes(b"weights")
    (tmp_path / "run.json").write_text('{"exit": "finished"}')
    line = (ROOT / "configs/ps_kd/plain.py", "raw_input", "--work-dir", tmp_path)
    assert f"{tmp_path} holds a training run" in sentence(capsys, "baseline", *line)
    assert (tmp_path / "run.json").read_text() == '{"exit": "finished"}'


def test_swapped_arguments_are_a_sentence(tmp_path, capsys):
    weights, config = tmp_path / "w.pth", tmp_path / "c.py"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, weights)
    config.write_text("model = dict(type='FasterRCNN')")
    said = sentence(capsys, "adapt", weights, config, tmp_path, "--out", tmp_path / "o")
    assert "is a file of weights" in said
    said = sentence(capsys, "test", weights, config)
    assert "Name the config" in said
    said = sentence(capsys, "export", config, tmp_path / "o.pth")
    assert "cannot be read as a checkpoint" in said


def test_json_tools_read_what_is_right(tmp_path):
    """The table above would also pass if nothing were ever accepted."""
    (tmp_path / "r.json").write_text(json.dumps({"rows": []}))
    assert call("list_methods", "--family", "diffusion") == 0
