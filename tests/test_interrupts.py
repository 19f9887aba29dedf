"""Ctrl-C and SIGTERM at any moment: one sentence, exit 130 and 143, no trace."""

import contextlib
import json
import os
import random
import runpy
import signal
import sys
import time
from argparse import Namespace

import pytest
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from yapf.yapflib import yapf_api

from pld_mmdet import interrupts
from pld_mmdet.cli import run_tool
from pld_mmdet.engine.run.runner import SafeRunner
from tests.engine.processes import ROOT, forked
from tests.engine.toy import write_config

HOW = "Go on like this."


def ending(main, capfd) -> tuple[int, str]:
    """Exit code and what was said of a tool in a process of its own."""
    capfd.readouterr()

    def child() -> None:
        try:
            run_tool(lambda _: main(), Namespace, lambda _: HOW)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)

    code = forked(child)
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
    return code, said.err


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Ended by a signal")],
)
def test_while_a_config_is_formatted(number, code, word, capfd, monkeypatch):
    """mmengine's bare except makes a SyntaxError of it."""

    def interrupted(*arguments, **more):
        os.kill(os.getpid(), number)
        time.sleep(5)

    for place in (yapf_api, mmengine_config):  # the upstream line imports it at once
        monkeypatch.setattr(place, "FormatCode", interrupted, raising=False)
    ended, said = ending(lambda: Config(dict(a=1)).pretty_text, capfd)
    assert ended == code
    assert said.strip().startswith(word)
    assert HOW in said


def test_an_error_that_follows_from_it_is_not_told(capfd):
    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("DataLoader worker is killed") from None

    assert ending(main, capfd)[0] == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (15, 143)])
def test_a_signal_that_is_swallowed_ends_the_run_at_the_next_step(number, code, capfd):
    def main():
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # as a callback does
            os.kill(os.getpid(), number)
            time.sleep(5)
        runner = SafeRunner.__new__(SafeRunner)
        runner._hooks = []
        runner.call_hook("after_train_iter")
        print("the step ends", file=sys.stderr, flush=True)
        runner.call_hook("before_train_iter")
        print("too far", file=sys.stderr, flush=True)

    ended, said = ending(main, capfd)
    assert ended == code
    assert "the step ends" in said
    assert "too far" not in said


def test_a_second_signal_does_not_disturb_the_end_and_a_later_one_ends_it(capfd):
    def main(wait):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            time.sleep(wait)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            print("orderly", file=sys.stderr, flush=True)

    code, said = ending(lambda: main(0.0), capfd)
    assert code == 130
    assert "orderly" in said
    code, said = ending(lambda: main(interrupts.AGAIN + 0.1), capfd)
    assert code == 130
    assert "orderly" not in said


def test_bugs_keep_their_trace():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda _: 1 / 0, Namespace)


def test_training_ends_in_order_at_any_moment(tmp_path, capfd):
    """Moments spread over start, training and saving."""
    config = write_config(tmp_path)
    rng = random.Random(3)
    install, trained = interrupts.install, 0
    for n in range(6):
        number = (signal.SIGINT, signal.SIGTERM)[n % 2]
        delay, folder = rng.uniform(0.02, 1.5), tmp_path / str(n)
        capfd.readouterr()

        def child() -> None:
            def armed() -> None:
                install()
                signal.setitimer(signal.ITIMER_REAL, delay, 0.05)  # noqa: B023

            def ring(*_) -> None:
                if n < 4 or (folder / "run.json").is_file():  # noqa: B023
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    os.kill(os.getpid(), number)  # noqa: B023

            signal.signal(signal.SIGALRM, ring)
            interrupts.install = armed
            sys.argv = ["tools/train.py", str(config), "--work-dir", str(folder)]  # noqa: B023
            sys.argv += ["--cfg-options", "train_cfg.max_iters=5000"]
            try:
                runpy.run_path(str(ROOT / "tools/train.py"), run_name="__main__")
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code or 0)

        assert forked(child) == 128 + number
        said = capfd.readouterr().err
        assert "Traceback" not in said
        assert "start again with" in said or "go on with" in said, said
        record = folder / "run.json"
        if record.is_file():
            trained += 1
            assert json.loads(record.read_text())["exit"] == "interrupted"
    assert trained >= 2  # the last two wait for the training itself
