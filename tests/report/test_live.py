"""The live page: what it says, that it stays up, and that it ends with its run."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.report import live
from pld_mmdet.report.live_page import build_live_page
from pld_mmdet.report.live_state import guard_sentences, headline, read_run
from tests.report.run_fixture import write_scalars
from tests.report.test_report import VOID, Checker, text_of

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0


def window(at: int, **changes) -> dict:
    numbers = dict(boxes=2.0, score=0.6, agreement=0.8, distance=0.01)
    return dict(iter=at, classes=[1.5, 0.5], silent=[], signs=[], **numbers) | changes


def write_live(folder: Path, stage: str = "train", age: float = 1.0) -> Path:
    """A work dir as adapt.py leaves it in the middle of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scalars(folder, seed=0, pseudo=True, iters=200)
    (extra,) = folder.glob("*/vis_data/scalars.json")
    with extra.open("a") as file:
        file.write(
            '\n{"pseudo/dropped": 300.0, "pseudo/dropped/car": 9.5, "step": 100}\n'
        )
        file.write('{"pseudo/dropped": 310.0, "pseudo/dropped/car": 8.5, "st')
    progress = dict(iter=200, max_iters=400, eta_seconds=125.0, loss=0.5, stage=stage)
    write = dict(
        progress=progress | dict(time=NOW - age, pid=1),
        run=dict(command="python tools/adapt.py", started="x", minutes=2.0)
        | dict(finished=None, exit="running", data=dict(train=dict(images=800))),
        guard=dict(
            state="sound",
            action="stop",
            rollbacks=0,
            classes=["car", "bus"],
            windows=[window(50, boxes=3.0), window(100, silent=["bus"])],
            events=[dict(iter=100, what="class bus has had no pseudo label")],
        ),
        examples=dict(
            iter=100,
            images=[
                dict(
                    iter=100,
                    file="<b>.png",
                    width=96,
                    height=64,
                    jpeg="QUJD",
                    counts=dict(kept=1, mined=1, dropped=30),
                    boxes=[
                        ["kept", 1.0, 2.0, 30.0, 40.0, "car 90 %"],
                        ["mined", 5.0, 2.0, 9.0, 9.0, "bus 12 %"],
                        ["dropped", 5.0, 2.0, 9.0, 9.0, "bus 1 %"],
                    ],
                )
            ],
        ),
    )
    for name, content in write.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "scores.jsonl").write_text(
        '{"iter": 0, "label_free/das": -1.0}\n{"iter": 100, "label_free/das": 0.5}\n{'
    )
    return folder


def page_of(folder: Path) -> str:
    return build_live_page(read_run(folder, NOW))


def well_formed(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert not [tag for tag in checker.open if tag not in VOID]
    for reference in checker.references:
        own = ("#", "data:image/jpeg;base64,", "live.js")
        assert reference.startswith(own)
    assert len(checker.ids) == len(set(checker.ids))
    for word in ("http:", "https:", "@import", "url("):
        assert word not in page
    # every line has the colour of a class that the style sheet knows
    for colour in set(re.findall(r'class="(?:line|fill) (?:dashed )?([\w-]+)"', page)):
        assert f".{colour}" in page.partition("</style>")[0], colour


def test_page_says_where_the_run_is(tmp_path):
    page = page_of(write_live(tmp_path / "my_run"))
    well_formed(page)
    text = text_of(page)
    assert "Iteration 200 of 400, about 2 min left" in text
    assert "loss 0.5 · " in text
    assert "800 images" in text
    assert "Sound at iteration 100, after 2 windows." in text
    assert "pseudo boxes an image 2.00 (first window 3.00)" in text
    assert "Without any pseudo label now: bus." in text
    assert "Iteration 100: class bus has had no pseudo label." in text
    assert "&lt;b&gt;.png at iteration 100: 1 kept, 1 mined, 30 dropped" in text
    for kind in ("k-high", "k-low", "k-dropped"):
        assert f'<g class="{kind}">' in page
    for title in ("all classes", "car", "car: dropped", "DAS", "Loss"):
        assert f'aria-label="{title}' in page
    assert "dropped now" in text
    assert "could not be drawn" not in text


def test_empty_folder_and_every_end(tmp_path):
    page = page_of(tmp_path)
    well_formed(page)
    assert "Waiting for the first iteration" in page
    assert "No window has been judged" in page
    folder = write_live(tmp_path / "run")
    for stage, words in (
        ("done", "Finished after 200 iterations"),
        ("interrupted", "Interrupted at iteration 200 of 400"),
        ("failed", "Failed at iteration 200 of 400"),
    ):
        progress = json.loads((folder / "progress.json").read_text())
        (folder / "progress.json").write_text(json.dumps(progress | dict(stage=stage)))
        assert headline(read_run(folder, NOW)) == words
        well_formed(page_of(folder))
    (folder / "report.html").write_text("x")
    write_live(tmp_path / "dead", age=600)
    assert "No sign of life for 10 min" in page_of(tmp_path / "dead")


def test_one_bad_file_costs_its_part_and_is_named(tmp_path):
    folder = write_live(tmp_path / "run")
    (folder / "guard.json").write_text('{"windows": [{}], "state": "sound"}')
    (folder / "examples.json").write_text('{"images": [{"file": "a"')
    page = page_of(folder)
    well_formed(page)
    text = unescape(text_of(page))
    assert "What could not be drawn" in text
    assert "guard: KeyError: 'iter'" in text
    assert "examples.json: JSONDecodeError" in text
    assert "Iteration 200 of 400" in text
    assert 'aria-label="all classes"' in page
    (folder / "examples.json").write_text('{"error": "No more pictures: x"}')
    assert "No more pictures: x" in page_of(folder)


def test_guard_in_words():
    bad = window(100, signs=["pseudo labels have fallen from 3.00 to 0.10 an image"])
    guard = dict(state="alarm", action="stop", windows=[window(50), bad], events=[])
    (said, _) = guard_sentences(guard)
    assert said.startswith("Alarm at iteration 100: pseudo labels have fallen")
    assert said.endswith(
        "If this goes on, it puts the last good weights back and stops."
    )
    assert guard_sentences(guard | dict(action="warn"))[0].endswith("It only warns.")
    stopped = guard | dict(state="stopped", events=[dict(iter=150, what="collapsed")])
    assert guard_sentences(stopped) == ["Stopped: collapsed."]


def get(port: int, path: str = "/", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Host": host} if host else {}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def port_of(said: str) -> int:
    return int(re.search(r"http://127\.0\.0\.1:(\d+)/", said).group(1))


def gone(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_page_is_served_while_the_body_runs_and_not_afterwards(tmp_path):
    folder, said = write_live(tmp_path / "run"), []
    with live.watched(folder, 0, said.append):
        port = port_of(said[0])
        status, page = get(port)
        assert status == 200
        assert "Iteration 200 of 400" in page
        assert get(port, "/etc/passwd")[0] == 404
        assert get(port, host="evil.example")[0] == 404
        assert get(port, host=f"localhost:{port}")[0] == 200
        # the page of the next look is the new one
        (folder / "progress.json").write_text('{"stage": "done", "iter": 400}')
        assert "Finished after 400 iterations" in get(port)[1]
    assert gone(port)
    with live.watched(folder, None, said.append):
        assert len(said) == 1


def test_busy_port_is_one_sentence_before_anything_begins(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"port {port} of this machine cannot"),
            live.watched(tmp_path, port),
        ):
            pass
    with pytest.raises(UserError, match="port 99999"):
        live.listen(99999)


CHILD = """
import sys, time
sys.path.insert(0, {root!r})
from pld_mmdet.report.live import watched
with watched({folder!r}, 0, lambda line: print(line, flush=True)):
    time.sleep(60)
"""


def hear_ctrl_c() -> None:
    """In the child: a shell's job in the background is started deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_a_run_that_is_interrupted_or_killed(tmp_path, number):
    code = CHILD.format(root=str(ROOT), folder=str(tmp_path))
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    port = port_of(run.stdout.readline())
    assert get(port)[0] == 200
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as the terminal does: both get it
    else:
        run.kill()
    run.wait(10)
    end = time.time() + 10
    while not gone(port):
        assert time.time() < end
        time.sleep(0.1)


def test_tool_watches_a_folder_without_torch(tmp_path):
    folder = write_live(tmp_path / "run")
    command = [sys.executable, str(ROOT / "tools" / "watch.py"), str(folder)]
    tool = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    port = port_of(tool.stdout.readline())
    assert get(port)[0] == 200
    maps = Path(f"/proc/{tool.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()
    tool.send_signal(signal.SIGINT)
    _, errors = tool.communicate(timeout=10)
    assert tool.returncode == 0
    assert errors == ""
    command[-1] = str(tmp_path / "none")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_without_a_run_is_said(tmp_path, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(live.LiveServer, "serve_forever", stop)
    said = []
    live.serve(tmp_path, say=said.append)
    assert said[0].startswith(f"No run has written to {tmp_path} yet")
    live.serve(write_live(tmp_path / "run"), say=said.append)
    assert len(said) == 3


def test_only_the_first_process_serves(monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert live.is_first_process()
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert not live.is_first_process()
    monkeypatch.setenv("RANK", "0")
    assert live.is_first_process()


HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'"


def spoiled(value: object) -> object:
    """The same json with a hostile text in place of every text."""
    if isinstance(value, dict):
        return {key: spoiled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [spoiled(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def test_no_text_of_a_run_becomes_markup(tmp_path):
    folder = write_live(tmp_path / "run")
    for name in ("guard", "run", "examples", "progress"):
        file = folder / f"{name}.json"
        content = spoiled(json.loads(file.read_text()))
        if name == "examples":  # kinds are keys of ours; another one is named below
            for box in content["images"][0]["boxes"]:
                box[0] = "kept"
        file.write_text(json.dumps(content))
    page = page_of(folder)
    well_formed(page)
    assert "<img" not in page
    assert page.count("<script") == 1
    assert "onerror=alert" in unescape(page)
    content["images"] = [dict(boxes=[[HOSTILE, 0, 0, 1, 1, "x"]], width=HOSTILE)]
    (folder / "examples.json").write_text(json.dumps(content))
    assert "<img" not in page_of(folder)


def test_half_a_letter_costs_a_question_mark(tmp_path):
    folder = write_live(tmp_path / "run")
    file = folder / "run.json"
    content = json.loads(file.read_text()) | {"command": "before \ud800 after"}
    file.write_text(json.dumps(content))
    with live.watched(folder, 0, (said := []).append):
        connection = http.client.HTTPConnection("127.0.0.1", port_of(said[0]))
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        assert "before ? after" in answer.read().decode()


@pytest.mark.parametrize("name", ["progress.json", "scores.jsonl", "guard.json"])
def test_a_pipe_a_folder_or_a_giant_in_the_run_does_not_block(tmp_path, name):
    folder = write_live(tmp_path / "run")
    file = folder / name
    file.unlink()
    os.mkfifo(file)
    assert "Live" in page_of(folder)  # would wait for a writer for ever
    file.unlink()
    file.mkdir()
    assert "Live" in page_of(folder)
    file.rmdir()
    with file.open("wb") as giant:
        giant.truncate(2 * 2**30)  # sparse: it takes no disk
    page = page_of(folder)
    assert "Live" in page
    if name != "scores.jsonl":
        assert "2048 MiB" in page


def test_the_policy_allows_no_inline_script(tmp_path):
    with live.watched(write_live(tmp_path / "run"), 0, (said := []).append):
        connection = http.client.HTTPConnection("127.0.0.1", port_of(said[0]))
        connection.request("GET", "/")
        answer = connection.getresponse()
        page, policy = (
            answer.read().decode(),
            answer.getheader("Content-Security-Policy"),
        )
        assert "script-src 'self'" in policy
        assert "default-src 'none'" in policy
        assert re.findall(r"<script[^>]*>[^<]*</script>", page) == [
            '<script src="live.js"></script>'
        ]
        assert not re.search(r"\son\w+=", page)
        connection.request("GET", "/live.js")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type").startswith("text/javascript")
        assert "replaceWith" in answer.read().decode()
