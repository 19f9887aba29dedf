"""What the command line tools share: config, errors in two lines, exit codes."""

import os
import pickle
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from pld_mmdet.errors import UserError

# This module is imported before the stack is known to be there: mm* and torch only
# inside functions, after check_stack().


def run_tool(main: Callable[[], None], resumable: Callable[[], str] | None = None):
    """Run a tool's main function and turn its ends into exit codes.

    ``UserError``: two lines on stderr, exit 2. Ctrl-C: how to go on, exit 130. SIGTERM
    (as from a cluster) ends like Ctrl-C with exit 143. Bugs keep their stack trace.

    Args:
        main: Does the work.
        resumable: Returns the sentence that says how to go on after Ctrl-C.
    """

    def terminate(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, terminate)
    try:
        from pld_mmdet.engine.stack import check_stack

        check_stack()
        main()
    except UserError as error:
        _complain(error)
        sys.exit(2)
    except pickle.UnpicklingError as error:
        from pld_mmdet.engine.checkpoint import refusal

        _complain(refusal("A checkpoint", error))
        sys.exit(2)
    except KeyboardInterrupt:
        how = resumable() if resumable is not None else "Start it again to repeat it."
        print(f"\nInterrupted. {how}", file=sys.stderr)
        sys.exit(130)


def _complain(error: UserError) -> None:
    print(f"error: {error.what}\nfix:   {error.fix}", file=sys.stderr, flush=True)


def add_config_arguments(parser: ArgumentParser) -> None:
    """Arguments that train.py and test.py share."""
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument(
        "--cfg-options",
        action="extend",  # given twice, both count
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="change config entries, e.g. train_cfg.max_iters=100 load_from=a.pth",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes were started (tools/dist_train.sh sets it)",
    )
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0)


def load_config(args: Namespace):
    """Read the config and apply the shared arguments.

    Args:
        args: With ``config`` and what :func:`add_config_arguments` adds.

    Returns:
        The resolved ``mmengine.Config`` with ``work_dir`` and ``launcher`` set.

    Raises:
        UserError: If the config does not exist or an option is no KEY=VALUE.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    from mmengine.config import Config, DictAction

    if not Path(args.config).is_file():
        raise UserError(
            f"The config {args.config} does not exist.",
            "Name a file in configs/ (relative paths start at the current folder).",
        )
    cfg = Config.fromfile(args.config)
    options = {}
    for option in args.cfg_options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(
                f"--cfg-options {option} is not of the form KEY=VALUE.",
                "For example: --cfg-options train_cfg.max_iters=100",
            )
        options[key] = DictAction._parse_iterable(value)
    cfg.merge_from_dict(options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = default_work_dir(args.config)
    return cfg


def default_work_dir(config: str) -> str:
    """``work_dirs/<method>/<setting>``: the config's place below configs/."""
    path = Path(config).with_suffix("")
    parts = path.parts
    if "configs" in parts:
        at = len(parts) - 1 - parts[::-1].index("configs")
        return str(Path("work_dirs", *parts[at + 1 :]))
    return str(Path("work_dirs", path.name))


def build_runner(cfg):
    """Build the config's runner; ``SafeRunner`` if it names none."""
    from mmengine.registry import RUNNERS

    from pld_mmdet.engine.stack import import_mmdet

    if cfg.get("default_scope") == "mmdet":
        import_mmdet()
    cfg.setdefault("runner_type", "pld_mmdet.SafeRunner")
    return RUNNERS.build(cfg)


def resume_sentence(args: Namespace, work_dir: str) -> str:
    """How to continue an interrupted training.

    Args:
        args: Of tools/train.py.
        work_dir: Where its checkpoints are.
    """
    from pld_mmdet.engine.provenance import command_line
    from pld_mmdet.engine.runner import find_latest

    latest = find_latest(work_dir)
    if latest is None:
        return f"No checkpoint was written yet: start again with\n{command_line()}"
    command = command_line()
    if args.resume is None:
        command += " --resume"
    return f"Nothing is lost up to {latest}; go on with\n{command}"
