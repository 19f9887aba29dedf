"""What several test modules start from."""

import functools
import gc
import multiprocessing
import os
import shutil
from pathlib import Path

import cv2
import pytest
from mmengine.registry import DefaultScope
from mmengine.runner import runner

from pld_mmdet.engine.config.configs import unformatted
from tests.engine.processes import prepare

os.environ["HF_HUB_OFFLINE"] = "1"  # a missing folder is not looked for on the net
cv2.setNumThreads(1)  # tests fork, and a pool's threads do not go with them
# Over all methods; what a method trains is shared.
WALKS = ("tests/test_methods.py", "tests/test_papers.py")


def shares_with(nodeid: str) -> str:
    """Tests of the same word go to one process: a file, or one method of a walk."""
    file, _, name = nodeid.partition("::")
    return f"{file} {name.partition('[')[2]}" if file.endswith(WALKS) else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The walks come last, method by method: small pieces even out the processes."""
    order = {shares_with(item.nodeid): n for n, item in reversed([*enumerate(items)])}

    def place(item: pytest.Item) -> tuple[bool, int]:
        word = shares_with(item.nodeid)
        return any(walk in word for walk in WALKS), order[word]

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)  # there without pytest-xdist too
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give a file's tests to one process, so that its fixtures are built once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shares_with(nodeid)

    config.option.loadscopereorder = False  # in the order of above
    return ByFixtures(config, log)


@pytest.fixture(scope="session", autouse=True)
def quick_starts():
    """Laying out a config and asking compilers for versions takes most of a short run.

    Processes that are started afresh do both, as a user's do.
    """
    with pytest.MonkeyPatch.context() as patch, unformatted():
        patch.setattr(runner, "collect_env", functools.cache(runner.collect_env))
        yield


@pytest.fixture(autouse=True)
def scope_of_its_own():
    """A run that a test makes sets mmengine's default scope; the next test has none."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(autouse=True)
def leaves_no_process():
    """What a failed test started ends with it; the end of all would wait for it."""
    before = multiprocessing.active_children()
    yield
    for child in multiprocessing.active_children():
        if child not in before and not child.daemon:
            child.kill()


@pytest.fixture(scope="module", autouse=True)
def nothing_imported_is_garbage():
    """mmengine collects garbage at each data set: it need not read all libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def street_tree(tmp_path_factory) -> Path:
    """A FoggyStreets tree of a few images, made by the real command; only to read."""
    root = tmp_path_factory.mktemp("streets") / "data"
    prepare("foggy_streets", "--root", root, "--train", 8, "--val", 3, "--test", 3)
    return root


@pytest.fixture
def streets(street_tree, tmp_path_factory) -> Path:
    """A tree of one's own, to add files to."""
    root = tmp_path_factory.mktemp("streets") / "data"
    return Path(shutil.copytree(street_tree, root))
