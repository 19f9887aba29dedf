"""What a collapse of self-training looks like in numbers; no runner, no network."""

import math
from dataclasses import dataclass

FEWEST_BOXES = 10  # an agreement on fewer says nothing


@dataclass
class CollapseSigns:
    """Judges the numbers of a window against those of the run's first window.

    A window is a dict: ``iter``; ``classes`` (pseudo boxes per image, by class) and
    ``boxes`` (their sum); ``score`` and ``entropy`` (means of the teacher's
    detections); where known ``agreement`` of teacher and student with ``compared``
    boxes, and ``distance`` of the teacher from the source weights.

    Args:
        silent_for: Steps without a pseudo label after which a class is called silent.
        min_boxes: Alarm below this share of the first window's boxes per image.
        max_boxes: Alarm above this multiple of them ...
        many: ... and above this number of boxes per image.
        min_agreement: Alarm below this share of the first window's agreement.
        least_agreement: Alarm below this agreement, whatever the first window's was (it
            may have seen the collapse already); judged from 10 boxes on.
        min_score: Alarm below this share of the first window's mean score.
        max_shift: Alarm above this total variation distance between the classes' shares
            of the boxes now and in the first window, beyond what chance explains (half
            the square root of classes per box of a window).
        max_silent: Alarm when more than this share of the seen classes is silent.
        max_distance: Alarm above this relative distance. It is the sign that also
            works in the first window, which the others are compared with.
    """

    silent_for: int = 600
    min_boxes: float = 0.25
    max_boxes: float = 8.0
    many: float = 20.0
    min_agreement: float = 0.5
    least_agreement: float = 0.1
    min_score: float = 0.5
    max_shift: float = 0.25
    max_silent: float = 0.5
    max_distance: float = 0.5

    def judge(
        self, first: dict, window: dict, last_seen: dict[str, int | None], images: int
    ) -> list[str]:
        """Sentences about what is wrong in a window; empty when it is sound.

        Args:
            first: The run's first window.
            window: The one that is judged.
            last_seen: Iteration at which each class last had a pseudo label, in the
                order of ``classes``; None: never.
            images: Images in a window.
        """
        numbers = [v for v in window.values() if isinstance(v, float)]
        if not all(math.isfinite(v) for v in numbers):
            return ["the teacher's numbers are not finite"]
        return [
            *self._counted(first, window),
            *self._fallen(first, window),
            *self._shifted(first, window, list(last_seen), images),
            *self._moved(window),
            *self._gone(window, last_seen),
        ]

    def silent(self, now: int, last_seen: dict[str, int | None]) -> list[str]:
        """Classes without a pseudo label for ``silent_for`` steps."""
        return [n for n, at in last_seen.items() if now - (at or 0) >= self.silent_for]

    def lost(self, now: int, last_seen: dict[str, int | None]) -> list[str]:
        """Those of the silent ones that once had a pseudo label."""
        silent = self.silent(now, last_seen)
        return [name for name in silent if last_seen[name] is not None]

    def _counted(self, first: dict, window: dict) -> list[str]:
        before, boxes = first["boxes"], window["boxes"]
        if boxes == 0:
            return [
                "the teacher gave not one pseudo label in this window, so the student "
                "learns that everything is background"
            ]
        if boxes < self.min_boxes * before:
            moved = "fallen"
        elif boxes > max(self.many, self.max_boxes * before):
            moved = "risen"
        else:
            return []
        return [f"pseudo labels have {moved} from {before:.2f} to {boxes:.2f} an image"]

    def _fallen(self, first: dict, window: dict) -> list[str]:
        signs = []
        for key, least, what in (
            ("agreement", self.min_agreement, "agreement of teacher and student"),
            ("score", self.min_score, "mean score of the detections"),
        ):
            if key in window and window[key] < least * first.get(key, 0.0):
                signs.append(
                    f"{what} has fallen from {first[key]:.2f} to {window[key]:.2f}"
                )
        if (
            window.get("compared", 0) >= FEWEST_BOXES
            and window["agreement"] < self.least_agreement
        ):
            signs.append(
                f"teacher and student agree on {100 * window['agreement']:.0f} % of "
                "their boxes"
            )
        return signs

    def _shifted(
        self, first: dict, window: dict, names: list[str], images: int
    ) -> list[str]:
        """Whether other classes are labelled than at first, beyond chance."""
        shares, fewest = [], math.inf
        for counts in (first["classes"], window["classes"]):
            total = sum(counts)
            if total == 0:
                return []
            shares.append([count / total for count in counts])
            fewest = min(fewest, total * images)
        moved = [now - before for before, now in zip(*shares, strict=True)]
        shift = sum(map(abs, moved)) / 2
        if shift <= self.max_shift + 0.5 * math.sqrt(len(moved) / fewest):
            return []
        most = max(range(len(moved)), key=moved.__getitem__)
        before, now = (100 * share[most] for share in shares)
        return [
            f"class {names[most]} has grown from {before:.0f} % to {now:.0f} % of the "
            "pseudo labels"
        ]

    def _moved(self, window: dict) -> list[str]:
        if window.get("distance", 0.0) <= self.max_distance:
            return []
        return [
            f"the teacher has moved by {window['distance']:.2f} of the length of the "
            "source weights: it is hardly the same detector any more"
        ]

    def _gone(self, window: dict, last_seen: dict[str, int | None]) -> list[str]:
        seen = sum(at is not None for at in last_seen.values())
        lost = len(self.lost(window["iter"], last_seen))
        if not seen or lost <= self.max_silent * seen:
            return []
        return [f"{lost} of {seen} classes have no pseudo label any more"]
