"""An experiment: the rows of a results table as a job graph.

A config carries the experiment as plain data::

    experiment = dict(
        name='foggy_streets',
        data='python tools/prepare.py foggy_streets',
        quick=dict(data_args='--train 48 --val 16 --test 16 --root data/tiny',
                   data_root=('data/foggy_streets/', 'data/tiny/'),
                   cfg_options=['train_cfg.val_interval=12']),
        rows=[
            dict(name='source', title='Source only', config='configs/source/x.py',
                 init=None, evaluate=dict(clear=None, fog='configs/source/fog.py'),
                 quick=['train_cfg.max_iters=12']),
            dict(name='lpld', title='LPLD', config='configs/lpld/x.py', init='source',
                 evaluate=dict(fog=None)),
        ],
        reported='teacher')

Without ``config`` a row's config is ``<name>.py`` beside the one that carries the
experiment, where that exists, else that one itself; so a row that differs by a word is
one line with ``options``, the ``--cfg-options`` of its training. ``init`` names the row
whose last checkpoint a row starts from, of the same seed, so all rows of one seed start
from the same weights. ``prepare`` is a command between the two: ``{init}`` in it stands
for that checkpoint, ``{out}`` for the file that it writes and training starts from;
with ``trained=False`` nothing is trained and that file is tested.
``command`` is run instead of training: ``{config}``, ``{init}`` and ``{out}``, the
row's folder, are filled in, and ``checkpoint`` names the file in it that is tested. Its
``quick`` are words that are appended.
``{seed}`` stands for the run's seed in both, and in ``seed_data``, a command that makes
the data of one seed after ``data`` (one command or several, one after the other).

``baseline`` names a trivial rival (``pld_mmdet/shared/baselines.py``), which is fitted
and scored on every evaluation's test data instead of training and tests; as a dict it
has arguments, ``dict(type='kmeans', clusters=10)``. ``trivial=True`` says of a row that
is trained as usual that it is such a rival (learning rate 0).

In ``evaluate`` None stands for the row's own config with those of its ``options`` that
begin with ``model.``; a list of ``KEY=VALUE`` for all of its options and these.
``online`` is the label of the numbers that the run itself wrote into ``online.json``.
``columns`` of the table are ``title=(label, metric)``; without them each label's
``metric`` and sizes are shown.
How long a row takes is read from its record in ``docs/results``. ``quick`` is what
``--quick`` changes [the config's ``walk`` and ``walk_data``]: arguments of the data
command, the folder of the data (old, new) wherever a config names it, and options for
all rows or for one. ``metric`` is what the table shows: a fraction in percent, or with
``percent=False`` the number itself; ``lower_is_better=True`` for losses and distances.
``contest``, ``role`` and ``groups`` of a row: contest.py. ``pictures``: panels.py.
``train``, ``test``, ``baseline`` and ``report`` may name other commands than ours.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.engine.config.configs import read_config
from pld_mmdet.errors import UserError
from pld_mmdet.experiments.durations import recorded_seconds
from pld_mmdet.experiments.gates import Gate, read_gates
from pld_mmdet.experiments.jobs import Job
from pld_mmdet.experiments.options import (
    command_of,
    has_place,
    moved,
    parse_options,
)


@dataclass
class Row:
    """One row of the table: a config, where it starts from, what it is tested on."""

    name: str
    config: str = ""
    init: str | None = None
    prepare: str | None = None
    trained: bool = True
    command: str | None = None
    checkpoint: str | None = None
    options: list[str] = field(default_factory=list)
    title: str = ""
    description: str = ""
    evaluate: dict[str, str | list[str] | None] = field(
        default_factory=lambda: {"test": None}
    )
    online: str | None = None
    baseline: str | dict | None = None
    trivial: bool = False
    role: str = ""
    groups: list[str] = field(default_factory=list)
    seconds: float = 0.0
    quick: list[str] = field(default_factory=list)
    quick_seconds: float = 15.0

    def tested_with(self, other: str | list[str] | None) -> list[str]:
        """Options of the training that an entry of ``evaluate`` is tested with too."""
        if isinstance(other, str):  # another config says it all
            return []
        own = isinstance(other, list)
        return [o for o in self.options if own or o.startswith("model.")]


@dataclass
class Experiment:
    """The experiment of a config, with the rows that were asked for.

    Use ``Experiment.load``.
    """

    config: str
    name: str
    rows: list[Row]
    data: str | list[str] | None = None
    seed_data: str | None = None
    data_seconds: float = 90.0
    quick: dict = field(default_factory=dict)
    reported: str = ""
    metric: str = "coco/AP50"
    percent: bool = True
    lower_is_better: bool = False
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    pictures: dict | None = None
    contest: dict | None = None
    train: str = "python tools/train.py"
    test: str = "python tools/test.py"
    baseline: str = "python tools/baseline.py"
    report: str = "python tools/report.py"
    _read: Callable[[str], Config] = field(
        default_factory=lambda: functools.cache(read_config), init=False, repr=False
    )

    @classmethod
    def load(cls, config: str, rows: Sequence[str] | None = None) -> "Experiment":
        """Read the experiment of a config file.

        Args:
            config: Path of a config that carries ``experiment``.
            rows: Names of the rows wanted [all]; the rows they start from are added.

        Raises:
            UserError: No such file, no experiment in it, or an unknown row or key.
        """
        found = read_config(config).get("experiment")
        if found is None:
            raise UserError(
                f"{config} carries no `experiment`, so there is no table to reproduce.",
                "Train it with tools/train.py, or add a row for it to an experiment in "
                "configs/_base_/experiments/.",
            )
        found = found.to_dict()
        try:
            every = [Row(**row) for row in found.pop("rows")]
            made = cls(config=config, rows=every, **found)
            made.gates = read_gates(made.gates, [row.name for row in every])
        except (TypeError, KeyError) as error:
            raise UserError(
                f"The experiment of {config} does not fit: {error}.",
                f"Its keys are described in {Path(__file__).name}.",
            ) from None
        beside = Path(config)
        for row in every:
            own = beside.with_name(f"{row.name}.py")
            row.config = row.config or str(own if own.is_file() else beside)
            row.seconds = row.seconds or recorded_seconds(made.name, row.name)
            row.trivial = row.trivial or row.baseline is not None
            if row.baseline is not None and (row.command or row.init):
                raise UserError(
                    f"Row {row.name} of {config} has a baseline, which reads no "
                    "command or init.",
                    "Leave them out, or write the row without `baseline`.",
                )
            if row.command and row.options:
                raise UserError(
                    f"Row {row.name} of {config} has a command, and options that "
                    "nothing would read.",
                    "Write them into the command.",
                )
            if not (row.trained or row.prepare) or (row.prepare and not row.init):
                raise UserError(
                    f"Row {row.name} of {config} has nothing to train or to prepare.",
                    "With trained=False it needs `prepare`, and `prepare` an `init`.",
                )
        made.rows = list(_with_origins(every, rows))
        return made

    def options(
        self, row: Row, config: str, quick: bool, own: Sequence[str] = ()
    ) -> list[str]:
        """``--cfg-options`` of a config: what makes it quick, and a row's own ones."""
        if not quick:
            return [*own]
        if not self.quick:
            return self._walk(config, own)
        # those of a row with a command are words of the command
        options = [
            *self.quick.get("cfg_options", []),
            *(() if row.command else row.quick),
        ]
        if "data_root" in self.quick:
            cfg = self.resolved(config, []).to_dict()
            read = {key: cfg[key] for key in cfg if not key.startswith("_")}
            for old, new in self.moves:
                options += moved(read, old, new)
        return [*options, *own]

    def _walk(self, config: str, own: Sequence[str]) -> list[str]:
        """``walk`` of a config and a row's own options; no stage is longer than two.

        Of ``walk`` the data and batches count: which stages a row has, it says itself.
        """
        cfg = self._read(config).to_dict()
        whole = config == self.config  # others inherit what they may have no use for
        kept = [
            option
            for option in cfg.get("walk") or ()
            if "max_iters=" not in option and has_place(cfg, option, new=whole)
        ]
        kept += own
        train = self.resolved(config, kept).get("train_cfg") or {}
        stages = enumerate(train.get("stages") or ())
        parts = [("", train), *((f"stages.{place}.", one) for place, one in stages)]
        long = [name for name, part in parts if (part.get("max_iters") or 0) > 2]
        return [*kept, *(f"train_cfg.{name}max_iters=2" for name in long)]

    def resolved(self, config: str, options: Sequence[str]) -> Config:
        """A config with options, without what changes no result: table and advice."""
        cfg = copy.deepcopy(self._read(config))  # most rows share a few configs
        cfg.pop("experiment", None)
        cfg.pop("how_to_get", None)
        try:
            cfg.merge_from_dict(parse_options(options))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{config} has no place for an option of its experiment's rows: "
                f"{error}. The options are {' '.join(options)}.",
                "A config that changes another inherits its experiment too: name the "
                "one whose table it is (for most methods toy.py beside it).",
            ) from None
        return cfg

    @property
    def moves(self) -> list[tuple[str, str]]:
        """Folders of the data and of the quick data: one pair, or several."""
        found = self.quick.get("data_root") or []
        return [tuple(found)] if found and isinstance(found[0], str) else found

    def data_commands(self, quick: bool) -> list[str]:
        """What makes the data of all seeds, without the arguments of ``quick``."""
        given, own = self.data, self._read(self.config)
        if quick and not self.quick and own.get("walk"):
            given = own.get("walk_data", given)
        return [given] if isinstance(given, str) else list(given)

    def report_job(self, out: Path, needs: Sequence[str], key: str) -> Job:
        """The job that writes ``out/report.html`` from everything else.

        Args:
            out: The experiment's folder.
            needs: The jobs it waits for.
            key: Text of the results: other results, another report.
        """
        page = out / "report.html"
        command = command_of(self.report, str(out), "--out", str(page), "--overwrite")
        needs, outputs = tuple(needs), (page,)
        return Job("report", command, needs=needs, outputs=outputs, key=key, seconds=20)


def _with_origins(rows: Sequence[Row], wanted: Sequence[str] | None) -> Iterator[Row]:
    by_name = {row.name: row for row in rows}
    names = list(wanted or by_name)
    keep = set()
    while names:
        name = names.pop()
        if name not in by_name:
            raise UserError(
                f"The experiment has no row {name!r}.",
                f"Its rows are: {', '.join(by_name)}.",
            )
        keep.add(name)
        if by_name[name].init:
            names.append(by_name[name].init)
    return (row for row in rows if row.name in keep)
