"""The terminal shows the run; the log and --verbose show all."""

import logging

import pytest

from pld_mmdet import quiet
from tests.engine.processes import Tool
from tests.engine.toy import write_config

WALLS = ("System environment", "Hooks will be executed", "Config:", "FileClient")


@pytest.mark.parametrize("words", [(), ("--verbose",)])
def test_walls_are_in_the_log_and_on_the_screen_when_asked_for(tmp_path, words):
    config, work = write_config(tmp_path), tmp_path / "run"
    arguments = ["train", config, "--work-dir", work, *words]
    said = Tool(*arguments, log=tmp_path / "said").finish()
    (log,) = work.glob("*/*.log")
    kept = log.read_text()
    for wall in WALLS:
        assert wall in kept
        assert (wall in said) == bool(words), wall
    assert "Iter(val)" in said
    assert "OneDL" not in said


def test_imports_are_quiet_about_onedl_alone(capsys, monkeypatch):
    with quiet.quiet_imports():
        print("Could not import OneDL. Skipping OneDL datasets.")
        print("something else")
    assert capsys.readouterr().out == "something else\n"
    monkeypatch.setenv(quiet.VERBOSE, "1")
    with quiet.quiet_imports():
        print("Could not import OneDL")
    assert capsys.readouterr().out == "Could not import OneDL\n"


def test_a_silent_log_knows_for_how_long(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(quiet.time, "monotonic", lambda: clock[0])
    logger = logging.Logger("x", logging.INFO)
    assert quiet.silent_for(logger) == 0.0
    logger.addHandler(logging.StreamHandler())
    logger.addHandler(logging.FileHandler(tmp_path / "log"))
    quiet.show_less(logger)
    clock[0] += 7
    logger.info("Config:\nnot shown")
    assert quiet.silent_for(logger) == 7.0
    logger.info("Iter 3")
    clock[0] += 2
    assert quiet.silent_for(logger) == 2.0
    assert (tmp_path / "log").read_text() == "Config:\nnot shown\nIter 3\n"
