"""CONTRIBUTING's five steps, tried on a method that is not in the list."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from pld_mmdet.catalogue import ROOT
from pld_mmdet.errors import UserError


@pytest.fixture(scope="module")
def new_method():
    path = ROOT / "tools/new_method.py"
    spec = importlib.util.spec_from_file_location("new_method", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """The repository without its runs, data and history."""
    left_out = {".git", ".venv", "work_dirs", "data"}

    def ignored(folder, names):
        at_the_top = left_out if folder == str(ROOT) else ()
        return {"__pycache__", *at_the_top}.intersection(names)

    return shutil.copytree(ROOT, tmp_path / "pld", ignore=ignored)


def run(copy, *command):
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lacks(copy, family, stem):
    listed = run(copy, "tools/list_methods.py", "--family", family, "--missing")
    lines = [line.partition(f"{stem}: ") for line in listed.splitlines()]
    return [lack for before, found, lack in lines if found and not before]


def test_a_new_method_is_green_and_trains(new_method, copy):
    files = new_method.write("classification", "my_kd", "My KD", "2026", copy)
    names = [str(path.relative_to(copy)) for path in files]
    assert "pld_mmdet/classification/my_kd.py" in names
    assert "pld_mmdet/methods.csv" in names
    code = [path for path in files if path.suffix == ".py"]
    assert copy / "tests/classification/plain_my_kd.py" in code
    run(copy, "-m", "ruff", "check", *code)
    run(copy, "-m", "ruff", "format", "--check", *code)
    tests = (
        "tests/classification/test_my_kd.py",
        "tests/benchmark/test_plain.py::test_every_method_outside_detection_has_a_case",
        "tests/benchmark/test_plain.py::test_both_sides_take_the_same_steps[my_kd_step]",
        "tests/test_methods.py::test_takes_two_steps_with_finite_losses[my_kd]",
        "tests/test_methods.py::test_saves_and_loads_strictly[my_kd]",
    )
    output = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert "8 passed" in output
    assert lacks(copy, "classification", "my_kd") == [
        "no result docs/results/my_kd.json",
        "a TODO is left in pld_mmdet/classification/my_kd.py",
        "a TODO is left in configs/my_kd/paper.py",
        "a TODO is left in docs/classification.md",
    ]


def test_a_new_detector_method_is_green(new_method, copy):
    files = new_method.write("detection", "my_teacher", "My Teacher", "2026", copy)
    code = [path for path in files if path.suffix == ".py"]
    run(copy, "-m", "ruff", "check", *code)
    run(copy, "-m", "ruff", "format", "--check", *code)
    tests = (
        "tests/detection/test_my_teacher.py",
        "tests/experiments/test_every_experiment.py"
        "::test_both_lengths_make_a_graph[configs/my_teacher/toy.py]",
        "tests/test_methods.py::test_the_catalogue_is_whole",
        "tests/test_methods.py::test_a_method_has_all_its_files[my_teacher]",
        "tests/test_methods.py"
        "::test_a_family_names_what_its_methods_register[my_teacher]",
        "tests/tools/test_list_methods.py::test_the_page_holds_the_tools_table",
    )
    output = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert "12 passed" in output
    assert lacks(copy, "detection", "my_teacher") == [
        "no result docs/results/my_teacher.json",
        "a TODO is left in pld_mmdet/detection/my_teacher.py",
        "a TODO is left in configs/my_teacher/paper.py",
        "a TODO is left in docs/my_teacher.md",
    ]


@pytest.mark.parametrize(
    ("family", "stem", "match"),
    [
        ("nowhere", "x", "no family"),
        ("detection", "x", "not in the catalogue"),
        ("audio", "Not-A-Stem", "is no stem"),
        ("audio", "taid", "belongs to language"),
        ("audio", "unknown_one", "not in the catalogue"),
    ],
)
def test_names_that_do_not_fit(new_method, tmp_path, family, stem, match):
    with pytest.raises(UserError, match=match):
        new_method.write(family, stem, "", "", tmp_path)


def test_a_title_that_would_end_a_string_is_refused(new_method, tmp_path):
    with pytest.raises(UserError, match="quotes, backslashes"):
        new_method.write("audio", "my_kd", 'My "KD"', "2026", tmp_path)


def test_nothing_is_overwritten(new_method, copy):
    new_method.write("audio", "my_kd", "My KD", "2026", copy)
    with pytest.raises(UserError, match="exists already"):
        new_method.write("audio", "my_kd", "My KD", "2026", copy)
