"""What is said of work that lasts."""

import time

from pld_mmdet.waiting import counted, duration


def test_durations():
    said = [duration(s) for s in (0, 59.4, 61, 3599, 7260, 200_000)]
    assert said == ["0 s", "59 s", "1 min", "1 h 0 min", "2 h 1 min", "2 days"]


def test_lines_come_now_and_then_and_are_true(monkeypatch):
    clock, said = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for number in counted(range(7), 7, "images checked", said.append, every=10):
        clock[0] += 4 if number < 3 else 8  # it becomes slower
    assert said == [
        "3 of 7 images checked, about 16 s left",  # 12 s for 3
        "5 of 7 images checked, about 11 s left",  # 28 s for 5
    ]
    assert list(counted([], 0, "images", said.append)) == []
    assert list(counted("ab", 2, "images", said.append)) == ["a", "b"]
    assert len(said) == 2  # what is quick is done in silence
