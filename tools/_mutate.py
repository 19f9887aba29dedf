"""The loop of tools/mutate.sh, called in a copy of the tree.

The libraries that the tests import are imported once; each change is written into the
file and tried by a process that is forked from there, so that it takes the tests' own
seconds only.
"""

import gc
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db

OURS = ("pld_mmdet", "tests", "tools", "conftest", "__main__")
LATE = -9  # by SIGKILL, after the time limit


def tried(words: Sequence[str], limit: float, imported: Path | None = None) -> int:
    """pytest's exit code with these arguments, in a process of its own.

    Args:
        words: Arguments of pytest.
        limit: Seconds after which it is killed.
        imported: File that receives the names of all modules that it came to import.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull if imported is None else "first.log", os.O_RDWR)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 3
        try:
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *words]))
            if imported is not None:
                imported.write_text(json.dumps(list(sys.modules)))
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            return LATE
        time.sleep(0.01)


def import_libraries(names: Sequence[str]) -> None:
    """Import what is not ours; what refuses is left to the tests."""
    for name in names:
        if name.partition(".")[0] not in OURS:
            try:
                import_module(name)
            except Exception:  # modules that libraries make on the way
                continue


def changes(path: Path) -> list:
    """What can be changed in a file, in a drawn order.

    Type hints (``int | None``) are no behaviour and are left out.
    """
    with use_db("session.sqlite", WorkDB.Mode.create) as base:
        init([path], base, {})
        found = [item.mutations[0] for item in base.work_items]
    found = [m for m in found if "BitOr" not in m.operator_name]
    found.sort(key=lambda m: (m.start_pos, m.operator_name, m.occurrence))
    random.Random(0).shuffle(found)
    return found


def main(file: str, minutes: str, *words: str) -> int:
    """Try changes until the time is over; print the score."""
    path, names = Path(file), Path("imported.json")
    Path("first.log").touch()
    if (code := tried(words, 1200, names)) != 0:
        print(*Path("first.log").read_text().splitlines()[-5:], sep="\n")
        print(f"error: the tests fail unchanged (exit {code}).")
        return 1
    import_libraries(json.loads(names.read_text()))
    begin = time.monotonic()
    tried(words, 1200)
    limit = 20 + 4 * (time.monotonic() - begin)
    source, found = path.read_text(), changes(path)
    gc.freeze()  # or each fork copies all objects at its first collection
    end = time.monotonic() + 60 * float(minutes)
    caught, survived = 0, []
    for change in found:
        if time.monotonic() > end:
            break
        operator = get_operator(change.operator_name)(**change.operator_args)
        changed = mutate_code(source, operator, change.occurrence)
        if changed is None or changed == source:
            continue
        path.write_text(changed)
        if tried(words, limit) == 0:
            survived.append(change)
        else:
            caught += 1
    path.write_text(source)
    lines = source.splitlines()
    for change in sorted(survived, key=lambda m: m.start_pos):
        line, name = change.start_pos[0], change.operator_name.split("/")[-1]
        print(f"survived: line {line} {name}: {lines[line - 1].strip()[:70]}")
    total = caught + len(survived)
    share = 100 * caught / max(total, 1)
    print(f"{file}: {caught} of {total} caught ({share:.0f} %), {len(found)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
