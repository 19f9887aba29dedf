"""The jobs of an experiment: data -> trainings (in the order of ``init``) -> tests."""

import json
import shlex
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from pld_mmdet.engine.state.provenance import annotations
from pld_mmdet.experiments.jobs import Job
from pld_mmdet.experiments.options import cfg_options, command_of, text_of
from pld_mmdet.experiments.rows import Experiment, Row

EVALUATION_SECONDS = 15.0
SEED = "{seed}"


def jobs_of(
    experiment: Experiment, seeds: Sequence[int], out: Path, quick: bool = False
) -> list[Job]:
    """The graph: data -> train (in the order of ``init``) -> tests.

    Run directories are ``out/seed_<s>/<row>/``; tests write
    ``metrics_<evaluation>.json`` into them.

    Args:
        experiment: Whose rows they are.
        seeds: Seeds of the training runs.
        out: The experiment's folder.
        quick: With the tiny lengths of the experiment's ``quick``.
    """
    return _Graph(experiment, out, quick).jobs(seeds)


class _Graph:
    """Makes the jobs, see :func:`jobs_of`.

    Attributes:
        options: ``--cfg-options`` of a row's training by its name, and of what it is
            tested with by (name, config).
        resolved: The configs with them.
        files: Annotation files that these read; ``{seed}`` is still in them.
    """

    def __init__(self, experiment: Experiment, out: Path, quick: bool) -> None:
        self.experiment, self.out, self.quick = experiment, out, quick
        self.options: dict[str | tuple[str, str], list[str]] = {}
        self.resolved: dict[str | tuple[str, str], Config] = {}
        self.files: set[Path] = set()
        for row in experiment.rows:
            named = [other for other in row.evaluate.values() if isinstance(other, str)]
            for config in {row.config, *named}:
                self._resolve((row.name, config), row, config, tested=True)
            # Training alone has the row's options.
            own = [self._moved(option) for option in row.options]
            self._resolve(row.name, row, row.config, own)

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        """All of them, each after what it needs."""
        found = self._data_job()
        data = [job.name for job in found]
        for seed in seeds:
            own = self._seed_data_job(seed, data)
            found += own
            for row in self.experiment.rows:
                found += self._row(row, seed, (*data, *(job.name for job in own)))
        return found

    def _resolve(self, key, row: Row, config: str, own=(), tested=False) -> None:
        options = self.experiment.options(row, config, self.quick, own)
        self.options[key] = options
        self.resolved[key] = self.experiment.resolved(config, options)
        self.files |= annotations(self.resolved[key], tested=tested)

    def _moved(self, text: str) -> str:
        """A command or option with the folder of the quick data."""
        for old, new in self.experiment.moves if self.quick else []:
            text = text.replace(old, new)
        return text

    # Data.

    def _data_job(self) -> list[Job]:
        """The job that makes the data of all seeds, if there is one."""
        if not self.experiment.data:
            return []
        commands = self.experiment.data_commands(self.quick)
        if self.quick:
            more = self.experiment.quick.get("data_args", "")
            more = [more] if isinstance(more, str) else more
            pairs = zip_longest(commands, more, fillvalue="")
            commands = [f"{command} {arguments}" for command, arguments in pairs]
        parts = [command_of(command) for command in commands]
        command = parts[0]
        if len(parts) > 1:
            command = ("sh", "-c", " && ".join(map(shlex.join, parts)))
        outputs = tuple(sorted(path for path in self.files if SEED not in str(path)))
        seconds = 10.0 if self.quick else self.experiment.data_seconds
        return [Job("data", command, outputs=outputs, seconds=seconds)]

    def _seed_data_job(self, seed: int, needs: Sequence[str]) -> list[Job]:
        """The job that makes one seed's data, if there is one."""
        given = self.experiment.seed_data
        if not given:
            return []
        more = self.experiment.quick.get("seed_data_args", "") if self.quick else ""
        command = command_of(_seeded(f"{given} {more}", seed))
        files = [str(path) for path in self.files if SEED in str(path)]
        outputs = tuple(map(Path, sorted(_seeded(file, seed) for file in files)))
        name, needs = f"seed_{seed}/data", tuple(needs)
        return [Job(name, command, needs=needs, outputs=outputs, seconds=10.0)]

    # Rows.

    def _row(self, row: Row, seed: int, ready: tuple[str, ...]) -> list[Job]:
        """A row's jobs of one seed, after those of the data."""
        found: list[Job] = []
        folder = self.out / f"seed_{seed}" / row.name
        last, needs, origin = f"seed_{seed}/{row.name}/train", ready, ""
        if row.init:
            needs = (*ready, f"seed_{seed}/{row.init}/train")
            origin = f"{{last_checkpoint:{self.out / f'seed_{seed}' / row.init}}}"
            if row.prepare:
                found = [self._prepare_job(row, seed, needs, origin)]
                needs, origin = (*ready, found[0].name), str(found[0].outputs[0])
        newest = f"{{last_checkpoint:{folder}}}"
        tested = str(folder / row.checkpoint) if row.checkpoint else newest
        if row.trained:
            found.append(self._training(last, row, seed, folder, origin, needs))
        else:
            last, tested = needs[-1], origin
        if row.baseline is not None:  # its command has scored it too
            return found
        return found + [
            self._test(row, seed, folder, label, last, tested) for label in row.evaluate
        ]

    def _prepare_job(
        self, row: Row, seed: int, needs: tuple[str, ...], init: str
    ) -> Job:
        """The command between two trainings: a checkpoint in, a checkpoint out."""
        file = self.out / "prepared" / f"seed_{seed}_{row.name}.pth"
        words = [
            _seeded(word, seed).replace("{init}", init).replace("{out}", str(file))
            for word in command_of(self._moved(row.prepare))
        ]
        name = f"seed_{seed}/{row.name}/prepare"
        return Job(name, tuple(words), needs=needs, outputs=(file,), seconds=8.0)

    def _training(
        self,
        name: str,
        row: Row,
        seed: int,
        folder: Path,
        origin: str,
        needs: tuple[str, ...],
    ) -> Job:
        """The job of a row's training, or of what stands in for it."""
        outputs, resume, cfg = (folder / "run.json",), (), self.resolved[row.name]
        if row.baseline is not None:
            command = self._baseline_command(row, seed, folder)
            outputs += tuple(folder / f"metrics_{name}.json" for name in row.evaluate)
        elif row.command:
            command = self._own_command(row, seed, folder, origin)
            resume = ("--resume",)
        else:
            command = command_of(self.experiment.train, row.config)
            command += ("--work-dir", str(folder), "--seed", str(seed))
            start = [_seeded(option, seed) for option in self.options[row.name]]
            start += [f"load_from={origin}"] if origin else []
            command += cfg_options(start)
            resume = _resume(cfg)
        names = [row.checkpoint] if row.checkpoint else []
        # a walk ends before numbers are taken along the way
        walks = self.quick and not self.experiment.quick
        names += ["online.json"] if row.online and not walks else []
        return Job(
            name,
            command,
            needs=needs,
            outputs=outputs + tuple(folder / name for name in names),
            work_dir=folder,
            resume=resume,
            key=_seeded(text_of(cfg), seed),
            seconds=row.quick_seconds if self.quick else row.seconds,
        )

    def _own_command(
        self, row: Row, seed: int, folder: Path, init: str
    ) -> tuple[str, ...]:
        """The command that a row has instead of training."""
        words = shlex.split(_seeded(self._moved(row.command), seed))
        filled = {"{config}": row.config, "{init}": init, "{out}": str(folder)}
        return command_of(shlex.join(filled.get(w, w) for w in words)) + tuple(
            row.quick if self.quick else ()
        )

    def _baseline_command(self, row: Row, seed: int, folder: Path) -> tuple[str, ...]:
        """The command that fits a trivial rival and scores it on all test data."""
        given = row.baseline
        given = {"type": given} if isinstance(given, str) else dict(given)
        words = [given.pop("type"), "--seed", str(seed), "--work-dir", str(folder)]
        if given:
            words += ["--set", *(f"{k}={json.dumps(v)}" for k, v in given.items())]
        words += ["--tests"]
        words += [f"{k}={v}" if v else k for k, v in row.evaluate.items()]
        changes = [_seeded(option, seed) for option in self.options[row.name]]
        command = command_of(self.experiment.baseline, row.config, *words)
        return command + cfg_options(changes)

    def _test(
        self, row: Row, seed: int, folder: Path, label: str, needs: str, tested: str
    ) -> Job:
        """The job that writes ``metrics_<label>.json`` of a checkpoint."""
        other = row.evaluate[label]
        own = isinstance(other, list)
        config = row.config if own else other or row.config
        more = [_seeded(option, seed) for option in row.tested_with(other)]
        more += other if own else []
        metrics = folder / f"metrics_{label}.json"
        command = command_of(self.experiment.test, config)
        command += (tested, "--out-metrics", str(metrics), "--overwrite")
        command += ("--work-dir", str(folder / f"test_{label}"))
        command += cfg_options([*self.options[row.name, config], *more])
        return Job(
            f"seed_{seed}/{row.name}/test_{label}",
            command,
            needs=(needs,),
            outputs=(metrics,),
            key=text_of(self.resolved[row.name, config]),  # options: the command
            seconds=5.0 if self.quick else EVALUATION_SECONDS,
        )


def _seeded(text: str, seed: int) -> str:
    return text.replace(SEED, str(seed))


def _resume(cfg: Config) -> tuple[str, ...]:
    """AdaBN is one pass that keeps no state: it is done again."""
    loop = cfg.get("train_cfg", {}).get("type", "")
    return () if loop.endswith("AdaBNLoop") else ("--resume",)
