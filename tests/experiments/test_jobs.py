"""The job graph with real processes: order, skipping, redoing, killing, failing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pld_mmdet.engine.state.files import write_json
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.jobs import Job, JobGraph, Running
from pld_mmdet.experiments.progress import part_done
from pld_mmdet.reading import read_state

# Writes its own folder: counts steps up to a number; with --resume from where it was.
STEPS = """
import pathlib, sys, time
folder, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(exist_ok=True)
state = folder / 'state'
first = int(state.read_text()) if '--resume' in sys.argv and state.exists() else 0
with open(folder / 'history', 'a') as f: f.write(f'from {first}\\n')
for step in range(first, steps):
    time.sleep(0.05)
    state.write_text(str(step + 1))
(folder / 'done').write_text('yes')
"""


def python(code: str, *arguments) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *map(str, arguments))


def note(log: Path, name: str, seconds: float = 0.0) -> tuple[str, ...]:
    code = (
        "import sys, time\n"
        "def write(what):\n"
        "    with open(sys.argv[1], 'a') as f: f.write(what + sys.argv[2] + '\\n')\n"
        "write('+'); time.sleep(float(sys.argv[3])); write('-')"
    )
    return python(code, log, name, seconds)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


def steps_job(folder: Path, steps: int = 40, **changes) -> Job:
    settings = dict(
        name="steps",
        command=python(STEPS, folder, steps),
        outputs=(folder / "done",),
        work_dir=folder,
        resume=("--resume",),
    )
    return Job(**(settings | changes))


def test_needs_come_first_and_two_run_side_by_side(tmp_path):
    log = tmp_path / "order"
    jobs = [
        Job("last", note(log, "last"), needs=("left", "right")),
        Job("left", note(log, "left", 0.6), needs=("first",)),
        Job("right", note(log, "right", 0.6), needs=("first",)),
        Job("first", note(log, "first")),
    ]
    JobGraph(jobs, tmp_path / "out", workers=2).run()
    lines = log.read_text().split()
    assert lines[:2] == ["+first", "-first"]
    assert set(lines[2:4]) == {"+left", "+right"}
    assert lines[-2:] == ["+last", "-last"]


def test_one_worker_runs_one_after_the_other_with_all_cores(tmp_path):
    log = tmp_path / "order"
    jobs = [Job(name, note(log, name, 0.2)) for name in "ab"]
    threads = python("import os; print('threads', os.environ['OMP_NUM_THREADS'])")
    jobs.append(Job("threads", threads))
    graph = JobGraph(jobs, tmp_path / "out", workers=1)
    graph.run()
    lines = log.read_text().split()
    assert [line[1] for line in lines] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
    cores = len(os.sched_getaffinity(0))
    assert f"threads {cores}" in graph.log(jobs[-1]).read_text()


def test_the_longest_way_to_the_end_starts_first(tmp_path):
    log = tmp_path / "order"
    jobs = [
        Job("short", note(log, "short"), seconds=5),
        Job("long", note(log, "long"), seconds=1),
        Job("after", note(log, "after"), needs=("long",), seconds=100),
    ]
    JobGraph(jobs, tmp_path / "out", workers=1).run()
    assert log.read_text().split()[::2] == ["+long", "+after", "+short"]


def test_finished_jobs_are_skipped(tmp_path):
    log = tmp_path / "order"
    jobs = [Job("a", note(log, "a")), Job("b", note(log, "b"), needs=("a",))]
    JobGraph(jobs, tmp_path / "out").run()
    again = JobGraph(jobs, tmp_path / "out")
    again.run()
    assert again.skipped == {"a", "b"}
    assert len(log.read_text().split()) == 4


def test_a_lost_output_is_made_again(tmp_path):
    product = tmp_path / "product"
    code = "import sys; open(sys.argv[1], 'a').write('x')"
    job = Job("a", python(code, product), outputs=(product,))
    for _ in range(2):
        JobGraph([job], tmp_path / "out").run()
    assert product.read_text() == "x"
    product.unlink()
    JobGraph([job], tmp_path / "out").run()
    assert product.read_text() == "x"


def test_a_change_redoes_what_depends_on_it_and_nothing_else(tmp_path):
    log = tmp_path / "order"

    def jobs(key: str) -> list[Job]:
        return [
            Job("a", note(log, "a"), key=key),
            Job("b", note(log, "b"), needs=("a",)),
            Job("c", note(log, "c")),
        ]

    JobGraph(jobs("lr=1"), tmp_path / "out").run()
    log.unlink()
    JobGraph(jobs("lr=2"), tmp_path / "out").run()
    assert log.read_text().split() == ["+a", "-a", "+b", "-b"]


def test_work_of_another_config_is_moved_aside_not_resumed(tmp_path):
    folder = tmp_path / "run"
    JobGraph([steps_job(folder, 2, key="old")], tmp_path / "out").run()
    JobGraph([steps_job(folder, 2, key="new")], tmp_path / "out").run()
    assert (folder / "history").read_text() == "from 0\n"
    (moved,) = (tmp_path / "out" / "replaced").glob("*/steps")
    assert (moved / "done").exists()


def test_failure_names_log_and_last_lines_and_stops_the_others(tmp_path):
    bad = "print('loading'); print('error: no images in data/x'); raise SystemExit(2)"
    log = tmp_path / "order"
    jobs = [Job("bad", python(bad)), Job("good", note(log, "good", 60))]
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        JobGraph(jobs, tmp_path / "out", workers=2).run()
    assert time.monotonic() - began < 20
    assert "bad ended with exit code 2" in caught.value.what
    assert "bad.log" in caught.value.what
    assert "error: no images in data/x" in caught.value.what
    assert "same command again" in caught.value.fix
    assert log.read_text().split() == ["+good"]
    stamp = read_state(tmp_path / "out" / "stamps" / "good.json")
    assert not is_alive(stamp["pid"])


def test_failed_training_goes_on_where_it_was(tmp_path):
    folder, trap = tmp_path / "run", tmp_path / "trap"
    trap.touch()
    code = STEPS.replace(
        "    state.write_text(str(step + 1))\n",
        "    state.write_text(str(step + 1))\n"
        f"    if step == 3 and pathlib.Path({str(trap)!r}).exists(): sys.exit(1)\n",
    )
    job = steps_job(folder, command=python(code, folder, 8))
    with pytest.raises(UserError, match="exit code 1"):
        JobGraph([job], tmp_path / "out").run()
    trap.unlink()
    JobGraph([job], tmp_path / "out").run()
    assert (folder / "history").read_text() == "from 0\nfrom 4\n"


def test_missing_output_is_a_failure(tmp_path):
    job = Job("a", python("pass"), outputs=(tmp_path / "nothing",))
    with pytest.raises(UserError, match=r"did not write .*nothing"):
        JobGraph([job], tmp_path / "out").run()


def test_killed_child_says_so(tmp_path):
    job = Job("a", python("import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(UserError, match=r"killed by SIGKILL .*memory"):
        JobGraph([job], tmp_path / "out").run()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_runner_goes_on_and_leaves_no_second_writer(tmp_path, number):
    folder, out = tmp_path / "run", tmp_path / "out"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.experiments.test_jobs import steps_job\n"
        "from pld_mmdet.experiments.jobs import JobGraph\n"
        "JobGraph([steps_job(Path(sys.argv[1]), 200)], Path(sys.argv[2])).run()"
    )
    root = Path(__file__).resolve().parents[2]
    runner = subprocess.Popen(
        python(code, folder, out),
        cwd=root,
        # A test run in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = time.monotonic() + 60
    while not (folder / "state").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    runner.send_signal(number)
    runner.wait(timeout=30)
    child = read_state(out / "stamps" / "steps.json")["pid"]
    assert is_alive(child) == (number == signal.SIGKILL)
    JobGraph([steps_job(folder, 200)], out).run()
    assert not is_alive(child)
    first, second = (folder / "history").read_text().splitlines()
    assert first == "from 0"
    assert 0 < int(re.search(r"\d+", second)[0]) < 200


def test_two_runners_do_not_share_a_folder(tmp_path):
    graph = JobGraph([Job("a", python("pass"))], tmp_path / "out")
    with (
        graph.locked(),
        pytest.raises(UserError, match="Another process is"),
    ):
        graph.run()


def test_last_checkpoint_is_filled_in_when_the_job_starts(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    code = (
        "import pathlib, sys\nf = pathlib.Path(sys.argv[1])\n"
        "(f / 'iter_7.pth').touch()\n(f / 'last_checkpoint').write_text('iter_7.pth')"
    )
    jobs = [
        Job("train", python(code, folder)),
        Job(
            "adapt",
            python("import sys; print(sys.argv[1])", f"a={{last_checkpoint:{folder}}}"),
            needs=("train",),
        ),
    ]
    graph = JobGraph(jobs, tmp_path / "out")
    graph.run()
    assert f"\na={folder / 'iter_7.pth'}\n" in graph.log(jobs[1]).read_text()


def test_wrong_graphs_are_refused(tmp_path):
    with pytest.raises(UserError, match="wait for each other"):
        JobGraph([Job("a", ("x",), needs=("b",))], tmp_path)
    with pytest.raises(UserError, match="one name"):
        JobGraph([Job("a", ("x",)), Job("a", ("y",))], tmp_path)


def test_time_left_plays_the_schedule(tmp_path):
    jobs = [
        Job("a", ("x",), seconds=10),
        Job("b", ("x",), seconds=30),
        Job("c", ("x",), needs=("a",), seconds=10),
    ]
    assert JobGraph(jobs, tmp_path, workers=2).seconds_left() == 30
    assert JobGraph(jobs, tmp_path, workers=1).seconds_left() == 50
    graph = JobGraph(jobs, tmp_path, workers=2)
    graph.done.add("a")
    graph.took["a"] = 20.0  # this machine takes twice the usual time
    assert graph.seconds_left() == 60


def running(tmp_path, began, work_dir=None, seconds=40.0):
    job = Job("a", ("x",), seconds=seconds, work_dir=work_dir)
    return Running(job, None, tmp_path / "log", time.monotonic() - began)


def test_a_job_that_reports_is_at_nothing_before_its_first_report(tmp_path):
    """By its usual length it stood at 86 % in its first seconds, and then at 7 %."""
    job = running(tmp_path, 34.4, work_dir=tmp_path)
    assert part_done(job) == (0.0, "starting")
    write_json(
        tmp_path / "progress.json",
        dict(iter=7, max_iters=100, stage="train", loss=0.5, eta_seconds=90.0),
    )
    assert part_done(job) == (0.07, "train 7/100, loss 0.500")


def test_a_job_that_reports_nothing_goes_by_its_usual_length(tmp_path):
    parts = [part_done(running(tmp_path, began))[0] for began in (10.0, 30.0, 400.0)]
    assert parts == pytest.approx([0.25, 0.75, 0.8], abs=1e-3)


def test_data_that_is_there_says_nothing_about_the_machine(tmp_path):
    """They took 3 s of 90, so that hours of training were said to be minutes."""
    jobs = [
        Job("data", ("x",), seconds=90.0),
        Job("a", ("x",), needs=("data",), seconds=40.0, work_dir=tmp_path),
        Job("b", ("x",), needs=("data",), seconds=50.0, work_dir=tmp_path / "b"),
    ]
    graph = JobGraph(jobs, tmp_path, workers=1)
    graph.done.add("data")
    graph.took["data"] = 3.0
    assert graph.seconds_left() == 90
    graph.running["a"] = running(tmp_path, 20.0, work_dir=tmp_path)
    state = dict(iter=1, max_iters=6, stage="train", loss=1.0, eta_seconds=100.0)
    write_json(tmp_path / "progress.json", state)  # 120 s instead of 40
    assert graph.seconds_left() == pytest.approx(100 + 3 * 50, abs=1)


def test_time_left_of_an_overdue_job_is_not_a_second(tmp_path):
    graph = JobGraph([Job("a", ("x",), seconds=40.0)], tmp_path, workers=1)
    for began, left in ((10.0, 30.0), (36.0, 9.0), (400.0, 100.0)):
        graph.running["a"] = running(tmp_path, began)
        assert graph.seconds_left() == pytest.approx(left, abs=0.1)
