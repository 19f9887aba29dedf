"""What an adaptation may end with: the source, or a checkpoint that is safer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.structures import InstanceData

from pld_mmdet.adaptation.detector import Detector
from pld_mmdet.adaptation.evidence import Evidence, compare
from pld_mmdet.adaptation.folder import Images
from pld_mmdet.adaptation.labelled import Labelled
from pld_mmdet.adaptation.looking import look
from pld_mmdet.detection.detectors.export import plain_state
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.report.pictures import spaced

SOURCE = "source"
CAUTION = 0.8  # a candidate is taken if 90 % of the draws see a gain


@dataclass
class Candidate:
    """One checkpoint and what is known of it.

    Attributes:
        name: ``source`` or a method.
        iteration: Of its run.
        checkpoint: The file.
        evidence: Against the source; None for the source itself.
        ap50: Of the labelled images, where there are some.
    """

    name: str
    iteration: int
    checkpoint: Path
    evidence: Evidence | None = None
    ap50: float | None = None

    def row(self) -> dict:
        """For json."""
        figures = self.evidence.as_dict() if self.evidence else {}
        about = dict(
            name=self.name, iter=self.iteration, checkpoint=str(self.checkpoint)
        )
        return about | figures | ({} if self.ap50 is None else dict(ap50=self.ap50))


class Candidates:
    """Looks at checkpoints on a fixed set of images and says which one is safest.

    Args:
        cfg: Stock config.
        detector: Of it.
        checkpoint: The source's weights.
        images: What it is adapted to.
        count: How many of them are looked at, spread evenly.
        threshold: Score above which a box counts as sure.
        labelled: Labelled images of the new domain; they decide where they are.
        say: Receives a line for each candidate.
    """

    def __init__(
        self,
        cfg: Config,
        detector: Detector,
        checkpoint: Path,
        images: Images,
        count: int,
        threshold: float,
        labelled: Labelled | None,
        say: Callable[[str], None],
    ) -> None:
        self._cfg, self._detector, self._say = cfg, detector, say
        chosen = spaced(count, len(images.files))
        self._paths = [images.root / images.files[n] for n in chosen]
        self._threshold, self._labelled = threshold, labelled
        content = load_checkpoint_file(checkpoint)
        state = content.get("state_dict", content)
        self._source = self._look(state)
        self.source = Candidate(SOURCE, 0, Path(checkpoint))
        self._hits: dict[int, Sequence] = {}
        if labelled is not None:
            self.source.ap50 = self._measure(state, self.source)
        self.all = [self.source]

    @property
    def most_boxes(self) -> int:
        """Most pseudo labels of an image: a run-away teacher finds more and more."""
        counts = [int((seen.scores > self._threshold).sum()) for seen in self._source]
        return max(3, int(np.ceil(1.5 * np.percentile(counts, 95))))

    def add(self, name: str, iteration: int, checkpoint: Path) -> Candidate:
        """Look at a checkpoint of a run, or of a plain detector."""
        state = plain_state(checkpoint)
        made = Candidate(name, iteration, Path(checkpoint))
        made.evidence = compare(self._source, self._look(state), self._threshold)
        if self._labelled is not None:
            made.ap50 = self._measure(state, made)
        self.all.append(made)
        self._say(f"Candidate: {self.sentence(made)}")
        return made

    def safest(self, among: Sequence[Candidate] | None = None) -> Candidate:
        """The one to end with; the source where nothing is safer.

        Args:
            among: Only these and the source; None: all.
        """
        among = self.all if among is None else [self.source, *among]
        if self._labelled is None:
            return max(among, key=self.merit)
        best = max(among, key=lambda candidate: candidate.ap50)
        return best if self.merit(best) > 0 else self.source

    def merit(self, candidate: Candidate) -> float:
        """How much safer than the source, which has 0; below 0: not safe.

        With labels the lower end of the gain in AP50 (90 % of the draws are above it),
        else :attr:`Evidence.merit`.
        """
        if candidate is self.source:
            return 0.0
        if self._labelled is not None:
            return self.interval(candidate, CAUTION)[0]
        return candidate.evidence.merit

    def sentence(self, candidate: Candidate) -> str:
        """What was found, in one line."""
        seen = candidate.evidence
        text = f"{candidate.name}, iteration {candidate.iteration}: "
        text += (
            f"{100 * seen.kept:.0f} % of the {seen.sure} objects that the source was "
            f"sure of are still found, {100 * seen.backed:.0f} % of its own were at "
            f"least suspected by the source, {seen.growth:.2f} times as many"
        )
        if seen.vanished:
            names = ", ".join(self._detector.classes[n] for n in seen.vanished)
            text += f"; never sure of {names} any more"
        if candidate.ap50 is not None:
            text += f"; AP50 {100 * candidate.ap50:.1f} on the labelled images"
        return text + "."

    def interval(
        self, candidate: Candidate, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Where a share of the draws of the labelled images sees the gain in AP50.

        Args:
            candidate: Not the source, of which None is returned.
            level: The share, half of the rest on each side.
        """
        if self._labelled is None or candidate is self.source:
            return None
        return self._labelled.gain(
            self._hits[id(self.source)], self._hits[id(candidate)], level
        )

    def _look(self, state: dict) -> list[InstanceData]:
        return look(self._cfg, self._detector, state, self._paths)

    def _measure(self, state: dict, candidate: Candidate) -> float:
        seen = look(self._cfg, self._detector, state, self._labelled.paths)
        self._hits[id(candidate)] = seen
        return self._labelled.ap50(seen)
