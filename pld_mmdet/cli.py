"""What the command line tools share: config, errors in two lines, exit codes."""

import io
import logging
import os
import pickle
import re
import sys
from argparse import (
    PARSER,
    REMAINDER,
    SUPPRESS,
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from pld_mmdet import interrupts
from pld_mmdet.errors import UserError
from pld_mmdet.quiet import VERBOSE
from pld_mmdet.started import as_typed, program

# This module is imported before the stack is known to be there: mm* and torch only
# inside functions, after check_stack().


class ToolParser(ArgumentParser):
    """A parser whose errors are two lines (what, what to do) and exit code 2.

    After reading it compares what is written (:func:`output`) with what is read
    (:func:`input_file`, :func:`input_folder`). The ranges of numbers are the kinds of
    ``pld_mmdet.values``: ``add("--batch", type=BATCH)``.

    Args:
        description: The tool's docstring.
        kwargs: As in ``argparse.ArgumentParser``.
    """

    def __init__(self, description: str | None = None, **kwargs) -> None:
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        kwargs.setdefault("prog", program())
        self._overwrites = False
        super().__init__(description=description, **kwargs)
        self.add_argument("--verbose", action=_Verbose)

    def format_help(self) -> str:
        """As argparse's; its commands work where they are read."""
        return as_typed(super().format_help())

    def parse_args(self, args=None, namespace=None) -> Namespace:
        """Read the command line; see argparse."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"there is no option or place for {rest[0]!r}", rest[0])
        outputs = [(k, v) for k, v in _given(found) if isinstance(v, Output)]
        inputs = [value for _, value in _given(found) if isinstance(value, Input)]
        if outputs:
            try:
                self._check_outputs(outputs, inputs, getattr(found, "overwrite", False))
            except UserError as error:
                _complain(error)
                sys.exit(2)
        return found

    def add_argument(self, *args, **kwargs) -> Action:
        """As in argparse; where a file is written, ``--overwrite`` is an option too."""
        if kwargs.get("type") is output_file and not self._overwrites:
            self._overwrites = True
            text = "replace a file that exists"
            super().add_argument("--overwrite", action="store_true", help=text)
        return super().add_argument(*args, **kwargs)

    @staticmethod
    def _check_outputs(outputs: list, inputs: list, overwrite: bool) -> None:
        from pld_mmdet.engine.state.files import keep_inputs, may_write

        for name, value in outputs:
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, OutputFile):
                may_write(value, inputs, overwrite or value.renewed, option)
            else:
                keep_inputs(value, inputs, option)

    def _get_values(self, action: Action, arg_strings: list[str]):
        # argparse makes an empty list of --option=--
        if action.option_strings and arg_strings == ["--"]:
            raise ArgumentError(action, "'--' is no value")
        if action.nargs not in (PARSER, REMAINDER) and action.type in (None, Path):
            kind = "value" if action.type is None else "path"
            for text in arg_strings:
                if _says_nothing(text):
                    raise ArgumentError(action, f"{text!r} is no {kind}")
        return super()._get_values(action, arg_strings)

    def error(self, message: str, word: str = "") -> NoReturn:
        """Print what is wrong and what to do, and end."""
        fix = f"{self.prog} --help lists what there is."
        option = re.match(r"argument (-[^:]*):", message)
        if option:
            name = option[1].rpartition("/")[2]
            fix = f"Give another {name}; {fix}"
        near = get_close_matches(word.split("=")[0], self._option_string_actions, n=1)
        if near and word.startswith("-"):
            fix = f"Did you mean {near[0]}?"
        _complain(UserError(message.rstrip(".") + ".", fix))
        sys.exit(2)


class _Verbose(Action):
    """Brings back what libraries say; for this process and those that it starts."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings,
            SUPPRESS,
            nargs=0,
            default=SUPPRESS,
            help="show all that the libraries say",
        )

    def __call__(self, *_) -> None:
        """Remember it."""
        os.environ[VERBOSE] = "1"


def _says_nothing(text: str) -> bool:
    """Whether it is blank, or holds bytes that no path of a config can hold.

    A name that is no UTF-8 arrives with surrogates, which no file is written with.
    """
    strange = any("\ud800" <= letter <= "\udfff" for letter in text)
    return not text.strip() or "\0" in text or strange


class Input(str):
    """A path that is read."""


class Output(str):
    """A path that is written."""


class OutputFile(Output):
    """A file that is written, anew; ``renewed``: what it holds is read and kept."""

    renewed = False


class RenewedFile(OutputFile):
    """A file of which a part is written again."""

    renewed = True


def input_file(text: str) -> Input:
    """Type of an option that names a file to read, or its address."""
    if _says_nothing(text):
        raise ArgumentTypeError(f"{text!r} is no file")
    if os.path.isdir(text):
        raise ArgumentTypeError(f"{text} is a folder, not a file")
    if os.path.lexists(text) and not os.path.isfile(text):
        leads = "a link that leads nowhere" if os.path.islink(text) else "no plain file"
        raise ArgumentTypeError(f"{text} is {leads}")
    return Input(text)


def input_folder(text: str) -> Input:
    """Type of an option that names a folder (or a pattern) to read."""
    if _says_nothing(text):
        raise ArgumentTypeError(f"{text!r} is no folder")
    return Input(text)


def output_file(text: str) -> OutputFile:
    """Type of an option that names a file to write."""
    if _says_nothing(text):
        raise ArgumentTypeError(f"{text!r} is no file")
    if os.path.isdir(text):
        raise ArgumentTypeError(f"{text} is a folder, not a file")
    _place_for(Path(text).parent)
    return OutputFile(text)


def renewed_file(text: str) -> RenewedFile:
    """Type of an option that names a file of which a part is written again."""
    return RenewedFile(output_file(text))


def output_folder(text: str) -> Output:
    """Type of an option that names a folder to write into."""
    if _says_nothing(text):
        raise ArgumentTypeError(f"{text!r} is no folder")
    _place_for(Path(text))
    return Output(text)


def _place_for(folder: Path) -> None:
    """Refuse a folder that is, or lies below, a file."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise ArgumentTypeError(f"{folder} cannot be written: {place} is a file")


def _given(found: Namespace) -> list[tuple[str, object]]:
    """(name, value) of all arguments, those of lists one by one."""
    pairs = []
    for name, value in vars(found).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            pairs.append((name, one))
    return pairs


def run_tool(
    main: Callable,
    parse: Callable[[], Namespace] | None = None,
    resumable: Callable[..., str] | None = None,
    stack: bool = True,
) -> None:
    """Run a tool's main function and turn its ends into exit codes.

    ``UserError``: two lines on stderr, exit 2. Ctrl-C, SIGTERM (as from a cluster) and
    SIGHUP (a closed terminal): one sentence and how to go on, exit 130, 143 and 129,
    whatever a library made of them.
    Bugs keep their stack trace.

    Args:
        main: Does the work; gets what ``parse`` returns, and may return an exit code.
        parse: Reads the command line; None: ``main`` does.
        resumable: Returns the sentence that says how to go on; gets the same.
        stack: Whether the tool needs torch and mmengine.
    """
    interrupts.install()
    logging.raiseExceptions = False  # a log on a full disk is no reason for a trace
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe gets each line in its time
        sys.stdout.reconfigure(line_buffering=True)
    arguments: list[Namespace] = []
    code = 0
    try:
        if parse is not None:
            arguments.append(parse())
        if stack:
            from pld_mmdet.engine.run.stack import check_stack

            check_stack()
            from pld_mmdet.engine.config.data_files import refuse_code

            refuse_code()
        code = main(*arguments) or 0
    except BaseException as error:
        number = interrupts.received()
        if number is not None or isinstance(error, KeyboardInterrupt):
            # Before the arguments are read there is nothing to go on with.
            known = resumable is not None and (parse is None or arguments)
            how = resumable(*arguments) if known else "Start it again to repeat it."
            code = _interrupted(number or 2, how)
        elif isinstance(error, UserError):
            _complain(error)
            code = 2
        elif isinstance(error, pickle.UnpicklingError):
            from pld_mmdet.engine.state.checkpoint import refusal

            _complain(refusal("A checkpoint", error))
            code = 2
        else:
            raise
    if code:
        sys.exit(code)


def _interrupted(number: int, how: str) -> int:
    ranks = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    if next((os.environ[n] for n in ranks if n in os.environ), "0") == "0":
        word = "Interrupted." if number == 2 else "Ended by a signal from outside."
        with suppress(OSError):  # the terminal may be what went away
            print(f"\n{word} {how}", file=sys.stderr, flush=True)
    return 128 + number


def _complain(error: UserError) -> None:
    text = as_typed(f"error: {error.what}\nfix:   {error.fix}")
    print(text, file=sys.stderr, flush=True)


def add_config_arguments(parser: ArgumentParser) -> None:
    """Arguments that train.py and test.py share."""
    parser.add_argument(
        "--work-dir", type=output_folder, help="folder for logs and checkpoints"
    )
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


def load_config(args: Namespace, model: bool = True):
    """Read the config and apply the shared arguments.

    Args:
        args: With ``config`` and what :func:`add_config_arguments` adds.
        model: Whether it must have one; looking at data needs none.

    Returns:
        The resolved ``mmengine.Config`` with ``work_dir`` and ``launcher`` set.

    Raises:
        UserError: If the config cannot be read, or an option is no KEY=VALUE or names
            a key that nothing reads.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    from mmengine.config import DictAction

    from pld_mmdet.engine.config.configs import check_option, read_config

    cfg = read_config(args.config, model=model)
    if args.cfg_options and cfg.get("default_scope") == "mmdet":
        from pld_mmdet.engine.run.stack import import_mmdet

        import_mmdet()  # so that the keys of its classes are known
    options = {}
    for option in args.cfg_options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UserError(
                f"--cfg-options {option} is not of the form KEY=VALUE.",
                "For example: --cfg-options train_cfg.max_iters=100",
            )
        check_option(cfg, key)
        options[key] = DictAction._parse_iterable(value)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise UserError(
            f"--cfg-options does not fit the config ({error}).",
            "Compare the keys with the config (python tools/train.py writes it whole "
            "into its work dir).",
        ) from error
    if cfg.get("image_folder") is not None:
        from pld_mmdet.shared.data.own_images import use_image_folder

        use_image_folder(cfg)
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

    from pld_mmdet.engine.run.stack import import_mmdet

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
    from pld_mmdet.engine.state.newest import find_latest
    from pld_mmdet.engine.state.provenance import command_line

    latest = find_latest(work_dir)
    if latest is None:
        return f"No checkpoint was written yet: start again with\n{command_line()}"
    command = command_line()
    if args.resume is None:
        command += " --resume"
    return f"Nothing is lost up to {latest}; go on with\n{command}"
