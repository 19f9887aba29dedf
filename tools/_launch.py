"""Starts several processes of one tool; says in a line how one ended.

For dist_train.sh, dist_test.sh and adapt.py --gpus.

Arguments are those of ``python -m torch.distributed.run``.
"""

import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def ended(number: int, code: int) -> str:
    """The sentences for a process that did not come to its end.

    Args:
        number: Which of the processes on this machine.
        code: Its exit code; minus the signal that ended it.
    """
    try:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    except ValueError:  # a signal without a name
        how = f"by signal {-code}"
    return (
        f"error: Process {number} was ended {how}: often memory ran out. The last "
        "checkpoint is whole.\n"
        "fix:   Mend it, then go on with the same command and --resume."
    )


if __name__ == "__main__":
    for name in ("elastic", "launcher", "run"):  # their words are pages of traces
        logging.getLogger(f"torch.distributed.{name}").setLevel(logging.CRITICAL)
    try:
        main()
    except SignalException as error:  # its processes have said how to go on
        sys.exit(128 + int(error.sigval))
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:  # the others had time for a sentence of their own
            print(ended(number, failure.exitcode), file=sys.stderr, flush=True)
        code = failure.exitcode
        sys.exit(code if code > 0 else 128 - code)
