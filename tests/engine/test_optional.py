"""A missing optional library: the method says which extra, everything else works."""

import builtins
import importlib
import sys

import pytest
from mmengine.registry import DATASETS, MODELS

from pld_mmdet.engine.optional import require
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
        monkeypatch.setattr("pld_mmdet.engine.optional.import_module", refuse_module)

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
