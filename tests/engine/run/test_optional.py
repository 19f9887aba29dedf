"""A missing optional library: the method says which extra, everything else works."""

import builtins
import importlib
import sys
from types import SimpleNamespace

import pytest
from mmengine.registry import DATASETS, MODELS, Registry

from pld_mmdet.engine.run import optional
from pld_mmdet.engine.run.optional import import_optimizers, require
from pld_mmdet.errors import UserError


@pytest.fixture
def hide(monkeypatch):
    """Makes a library look as if it were not installed."""

    def hidden(name):
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        real, real_module = builtins.__import__, importlib.import_module

        def refuse(wanted, *args, real=real, **kwargs):
            if wanted.partition(".")[0] == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(wanted, *args, **kwargs)

        def refuse_module(wanted, *args):
            return refuse(wanted, *args, real=real_module)

        monkeypatch.setattr(builtins, "__import__", refuse)
        monkeypatch.setattr(
            "pld_mmdet.engine.run.optional.import_module", refuse_module
        )

    return hidden


def test_what_is_there_is_imported():
    assert require("json", "audio").dumps([1]) == "[1]"


def test_the_extra_is_named(hide):
    hide("sklearn")
    with pytest.raises(UserError, match="sklearn") as caught:
        DATASETS.build(dict(type="pld_mmdet.Digits", part="test"))
    assert "pld-mmdet[" in caught.value.fix
    # and what needs no scikit-learn still builds
    MODELS.build(dict(type="pld_mmdet.SmallConvNet"))


def test_a_hole_inside_an_installed_library_keeps_its_own_error():
    with pytest.raises(ModuleNotFoundError, match=r"json\.nothing"):
        require("json.nothing.there", "audio")


def test_the_optimizers_are_imported_without_transformers(monkeypatch):
    """Half of the start of every tool was transformers, for one class."""
    seen, registry = [], Registry("optimizer")

    def load(name):
        seen.append(sys.modules.get("transformers", "absent"))
        return SimpleNamespace(OPTIMIZERS=registry, Adafactor=lambda *a, **k: (a, k))

    monkeypatch.delitem(sys.modules, "mmengine.optim", raising=False)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.setattr(optional, "import_module", load)
    monkeypatch.setattr(optional, "find_spec", lambda name: name)
    import_optimizers()
    assert seen == [None]  # an import of it fails meanwhile
    assert "transformers" not in sys.modules
    built = registry.build(dict(type="Adafactor", lr=3e-4))
    assert built == ((), {"lr": 3e-4})
    assert seen == [None, "absent"]  # brought when it is built

    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    import_optimizers()  # not installed: nothing is hidden, nothing registered anew
    assert seen[2] == "absent"
