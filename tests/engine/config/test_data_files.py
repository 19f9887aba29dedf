"""Configs that are data run nothing, whatever stands in them."""

import json
import pickle

import mmengine
import numpy as np
import pytest
import yaml
from mmengine.config import Config

from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.engine.config.data_files import read_dump, refuse_code
from pld_mmdet.errors import UserError
from tests.tools.test_bad_input import sentence

MODEL = "model: {type: RetinaNet}\n"
# Each one leaves the file `ran` behind where it is run.
HOSTILE = {
    "apply": "a: !!python/object/apply:os.mkdir ['{ran}']\n" + MODEL,
    "new": "a: !!python/object/new:os.mkdir ['{ran}']\n" + MODEL,
    "a command": "a: !!python/object/apply:os.system ['mkdir {ran}']\n" + MODEL,
    "module": "a: !!python/module:antigravity\n" + MODEL,
    "nested": "a: [1, {b: !!python/object/apply:pathlib.Path.touch ['{ran}']}]\n",
    "a .py base": "_base_: evil.py\n" + MODEL,
    "a base of a base": "_base_: [other.yaml]\n" + MODEL,
    "a package's base": "_base_: 'mmdet::../../../{ran}.py'\n" + MODEL,
    "a type": "model: {type: RetinaNet, x: {type: os.mkdir, path: '{ran}'}}\n",
    "a deep type": "model: {type: subprocess.check_call, args: [touch, '{ran}']}\n",
    "a type of the stack": "model: {type: mmengine.fileio.load, file: x.pkl}\n",
    "torch, no network": "model: {type: torch.hub.load, repo_or_dir: '{folder}'}\n",
    "a hook's class": "model: {type: A}\nema_type: shutil.rmtree\n",
    "imports": "custom_imports: {imports: [evil]}\n" + MODEL,
    "commands": "experiment: {name: a, data: 'mkdir {ran}', rows: []}\n" + MODEL,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(ran)!r})\n")
    (tmp_path / "other.yaml").write_text("_base_: evil.py\n")
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump(Runs(ran), file)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def written(folder, text):
    path = folder / "config.yaml"
    names = {"{ran}": str(folder / "ran"), "{folder}": str(folder)}
    for name, value in names.items():
        text = text.replace(name, value)
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_yaml_config_runs_nothing(folder, kind):
    with pytest.raises(UserError) as caught:
        read_config(written(folder, HOSTILE[kind]))
    assert "nothing was run" in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("kind", [k for k, v in HOSTILE.items() if "!!" not in v])
def test_nor_does_a_json_config(folder, kind):
    content = yaml.safe_load(written(folder, HOSTILE[kind]).read_text())
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    (folder / "other.yaml").write_text("_base_: evil.py\n")
    with pytest.raises(UserError, match="nothing was run"):
        read_config(path)
    assert not (folder / "ran").exists()


TOOLS = {
    "adapt": "adapt {config} weights.pth images",
    "check_data": "check_data {config}",
    "export": "export weights.pth out.pth --config {config}",
    "train": "train {config}",
    "test": "test {config} weights.pth",
    "baseline": "baseline {config} majority",
    "reproduce": "reproduce {config}",
    "measure_pseudo_labels": "measure_pseudo_labels {config} weights.pth",
    "browse_pseudo_labels": "browse_pseudo_labels {config} weights.pth",
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", ["apply", "a deep type", "a base of a base"])
def test_no_tool_runs_it(folder, monkeypatch, capsys, tool, kind):
    monkeypatch.chdir(folder)
    (folder / "weights.pth").write_bytes(b"PK")
    (folder / "images").mkdir()
    config = written(folder, HOSTILE[kind])
    name, *words = TOOLS[tool].format(config=config).split()
    sentence(capsys, name, *words)
    assert not (folder / "ran").exists()


def test_honest_data_is_read_with_its_bases_and_tuples(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps({"model": {"depth": 50, "k": 3}}))
    (tmp_path / "own.yaml").write_text(
        "_base_: base.json\n"
        "model: {type: mmdet.RetinaNet, depth: 18, act: {type: torch.nn.ReLU}}\n"
        "size: !!python/tuple [7, 4]\n"
    )
    cfg = read_config(tmp_path / "own.yaml", model=True)
    assert (cfg.model.depth, cfg.model.k, cfg.size) == (18, 3, (7, 4))


def test_bases_in_a_circle_are_named(tmp_path):
    (tmp_path / "a.yaml").write_text("_base_: b.yaml\n")
    (tmp_path / "b.yaml").write_text("_base_: a.yaml\n")
    with pytest.raises(UserError, match="of itself"):
        read_config(tmp_path / "a.yaml")


def test_a_pickle_is_plain_data_and_arrays_or_nothing(folder):
    refuse_code()
    with pytest.raises(UserError, match=r"asks for posix\.mkdir"):
        mmengine.load(folder / "x.pkl")
    assert not (folder / "ran").exists()
    data = [dict(boxes=np.array([[3.0, 1.0]], np.float32), n=np.int64(7), s={"a"})]
    for protocol in (2, 5):
        path = folder / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(data, protocol))
        (found,) = mmengine.load(path)
        assert found["boxes"].tolist() == [[3.0, 1.0]]
        assert (found["n"], found["s"]) == (7, {"a"})


def test_what_a_run_wrote_is_read_as_it_was(tmp_path):
    cfg = Config(
        dict(
            model=dict(type="mmdet.RetinaNet", sizes=[(3, 1)], far=float("inf")),
            custom_hooks=[{"not a name": {"b": -2.5, "c": None}}],
            low=float("-inf"),
            kinds={"a", "b"},
        )
    )
    cfg.dump(tmp_path / "config.py")
    assert read_dump(tmp_path / "config.py").to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    "line",
    ["import os", "a = open('x', 'w')", "a = [b for b in (1, 2)]", "a.b = 1", "f()"],
)
def test_a_dump_with_code_is_refused_by_its_line(tmp_path, line):
    (tmp_path / "config.py").write_text(f"b = 1\n{line}\n")
    with pytest.raises(UserError, match=r"line 2.*nothing was run"):
        read_dump(tmp_path / "config.py")


def test_a_dump_imports_only_what_is_installed(folder):
    text = "custom_imports = dict(imports=['evil'])\nexperiment = dict(data='ls')\n"
    path = folder / "config.py"
    path.write_text(text)
    assert read_dump(path).experiment.data == "ls"
    with pytest.raises(UserError, match="imports evil"):
        read_dump(path, build=True)
    path.write_text(text.replace("evil", "json"))
    assert read_dump(path, build=True).custom_imports.imports == ["json"]
    assert not (folder / "ran").exists()
