"""The one exception that is written for people."""

from collections.abc import Iterable


class UserError(RuntimeError):
    """Something the user can mend: says what is wrong and where, then what to do.

    The command line tools print it as two lines and end with exit code 2 instead of
    a stack trace.

    Args:
        what: What is wrong and where (file, key, class name).
        fix: What to do about it, if possible as a command line.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}\n{fix}")
        self.what = what
        self.fix = fix

    def __reduce__(self) -> tuple:
        """Keep both sentences on the way from a worker process."""
        return type(self), (self.what, self.fix)


def one_of(owner: str, **words: tuple[object, Iterable]) -> None:
    """Check arguments that are words out of a list.

    Args:
        owner: Class that takes them.
        words: ``argument=(value, allowed values)``.

    Raises:
        UserError: Names the argument, its value and what is allowed.

    Examples:
        >>> one_of("BDKD", predict_on=("student", ("student", "teacher")))
    """
    for name, (value, allowed) in words.items():
        if value not in (allowed := tuple(allowed)):
            raise UserError(
                f"{owner}: {name}={value!r} is not known.",
                f"Choose one of {', '.join(map(repr, allowed))}.",
            )
