"""The doctor: fine here, and the exact line when something is missing."""

import importlib.util

import pytest

from pld_mmdet.catalogue import ROOT
from pld_mmdet.errors import UserError


@pytest.fixture
def doctor(monkeypatch):
    path = ROOT / "tools/doctor.py"
    spec = importlib.util.spec_from_file_location("doctor", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", ["doctor.py"])
    return module


def test_this_environment_is_fine(doctor, capsys):
    assert doctor.main() == 0
    said = capsys.readouterr().out
    assert "MISSING" not in said
    assert "compiled operators run" in said
    assert "Ready:" in said


def test_a_missing_optional_library_is_no_reason_to_stop(doctor, capsys, monkeypatch):
    core, extras = doctor.requirements()
    extras = {**extras, "diffusion": ["nothing-of-that-name>=1.0"]}
    monkeypatch.setattr(doctor, "requirements", lambda: (core, extras))
    assert doctor.main() == 0
    said = capsys.readouterr().out
    assert "without  [diffusion] nothing-of-that-name>=1.0" in said
    assert "-> pip install 'nothing-of-that-name>=1.0'" in said


def test_an_old_or_missing_core_library_is(doctor, capsys, monkeypatch):
    _, extras = doctor.requirements()
    core = ["numpy>=9999", "nothing-of-that-name>=1.0"]
    monkeypatch.setattr(doctor, "requirements", lambda: (core, extras))
    assert doctor.main() == 2
    said = capsys.readouterr().out
    assert "numpy>=9999 (here: " in said
    assert "-> pip install 'numpy>=9999' 'nothing-of-that-name>=1.0'" in said


def test_a_mixed_stack_is_named_with_its_cure(doctor, capsys, monkeypatch):
    def mixed():
        raise UserError("Two lines are mixed.", "pip uninstall -y mmcv")

    monkeypatch.setattr("pld_mmdet.engine.run.stack.check_stack", mixed)
    assert doctor.main() == 2
    assert "-> pip uninstall -y mmcv" in capsys.readouterr().out


def test_operators_that_do_not_run(doctor, capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("mmcv.ops.nms", broken)
    assert doctor.main() == 2
    said = capsys.readouterr().out
    assert "do not run here (no kernel)" in said
    assert "--no-build-isolation --force-reinstall --no-deps" in said
