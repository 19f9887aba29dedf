"""RAD: which images a costly teacher is asked about, if it may be wrong."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_gather, is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from pld_mmdet.distill._checks import same_shape, wide
from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.distill.selection import margins
from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError, one_of
from pld_mmdet.registry import DATASETS, MODELS
from pld_mmdet.shared.taught import TaughtStudent, mean_probabilities

FLOOR = 1e-6  # of a gain: 1 / g
_STREAM = 41  # keeps these draws apart from a run's iterations and samples


@torch.no_grad()
def game(
    gains: Tensor, losses: Tensor | None = None, budget: float = 1
) -> tuple[Tensor, Tensor]:
    r"""The sampler's best mixture if an adversary spoils labels, and what it is worth.

    ``max_p { sum_i p_i g_i - c max_i p_i (g_i + l_i) }`` over the simplex. With g in
    descending order, ``A_k = sum_{i<=k} g_i / (g_i + l_i)`` and ``H_k = sum_{i<=k} 1 /
    (g_i + l_i)``: ``k* = argmax (A_k - c) / H_k``, ``p_i = 1 / ((g_i + l_i) H_k*)`` for
    the first k* points and 0 for the others. Gains below 1e-6 count as that.

    Args:
        gains: [K], what a point is worth if the teacher is right about it; >= 0.
        losses: [K], what it costs if not [0]; >= 0.
        budget: c, how many labels the adversary can spoil, 0 to K.

    Returns:
        Probabilities [K] and the value, a scalar; empty and 0 where K is 0.

    Raises:
        UserError: Shapes differ, negative or non-finite numbers, or a budget outside
            0 to K.

    Examples:
        >>> game(torch.tensor([0.5, 0.25]))[0]
        tensor([0.3333, 0.6667])
    """
    losses = torch.zeros_like(gains) if losses is None else losses
    same_shape("game", gains=gains, losses=losses)
    gains, losses = wide(gains), wide(losses)
    if gains.dim() != 1 or not all(
        ((v >= 0) & v.isfinite()).all() for v in (gains, losses)
    ):
        raise UserError(
            "game: gains and losses are not rows of finite numbers from 0 on.",
            "Give [K], such as one minus the margins.",
        )
    if not len(gains):
        return gains.clone(), gains.sum()
    if not 0 <= budget <= len(gains):
        raise UserError(
            f"game: a budget of {budget} for {len(gains)} points.",
            "Choose 0 to the number of points: n (1 - accuracy of the teacher).",
        )
    gains, order = gains.clamp(min=FLOOR).sort(descending=True, stable=True)
    stakes = gains + losses[order]
    worth, inverse = (gains / stakes).cumsum(0), stakes.reciprocal().cumsum(0)
    value, best = ((worth - budget) / inverse).max(0)
    chosen = torch.zeros_like(gains)
    chosen[: best + 1] = 1 / (stakes[: best + 1] * inverse[best])
    return torch.empty_like(chosen).scatter_(0, order, chosen), value


@torch.no_grad()
def rad_marginals(probabilities: Tensor, gains: Tensor, batch: int) -> Tensor:
    """With which probability each point is in a batch: ``min(1, t p)``, sum = batch.

    Where fewer points have any probability all of those are taken, and the points with
    the next gains beside them.

    Args:
        probabilities: [K].
        gains: [K].
        batch: Points that are drawn; at most K.

    Returns:
        [K] in float64.

    Raises:
        UserError: A batch outside 0 to K.
    """
    same_shape("rad_marginals", probabilities=probabilities, gains=gains)
    if not 0 <= batch <= len(gains):
        raise UserError(
            f"rad_marginals: {batch} of {len(gains)} points.",
            "Ask for as many as there are, or fewer.",
        )
    p, support = probabilities.double(), probabilities > 0
    if support.sum() <= batch:
        found = support.double()
        left = batch - int(support.sum())
        others = gains.masked_fill(support, -1).argsort(descending=True, stable=True)
        found[others[:left]] = 1
        return found
    if not batch:
        return torch.zeros_like(p)
    high = p.sort(descending=True).values
    certain = torch.arange(batch, device=p.device)  # so many are at 1
    rest = high.flip(0).cumsum(0).flip(0)[:batch]
    times = (batch - certain) / rest
    first = int((times * high[:batch] <= 1 + 1e-12).double().argmax())
    return (times[first] * p).clamp(max=1)


def dep_round(marginals: Tensor) -> Tensor:
    """Draw a set whose size is fixed and whose members have these probabilities.

    Dependent rounding (Gandhi et al. 2006): two fractional entries at a time exchange
    mass until one of them is 0 or 1. Draws from torch's stream.

    Args:
        marginals: [K] in [0, 1] with a whole number b as sum.

    Returns:
        The numbers of the b members, sorted.

    Raises:
        UserError: A probability outside [0, 1], or a sum that is not whole.
    """
    pi, close = marginals.double().tolist(), 1e-6
    total = sum(pi)
    wrong = any(not -close <= value <= 1 + close for value in pi)
    if wrong or abs(total - round(total)) > close * max(1, len(pi)):
        raise UserError(
            f"dep_round: marginals of sum {total:.6g}.",
            "Give probabilities whose sum is the size of the set.",
        )
    last = None  # the one fractional entry that is carried on
    for j, value in enumerate(pi):
        if not 1e-12 < value < 1 - 1e-12:
            continue
        if last is None:
            last = j
            continue
        i = last
        up, down = min(1 - pi[i], pi[j]), min(pi[i], 1 - pi[j])
        if torch.rand(()).item() < down / (up + down):
            pi[i], pi[j] = pi[i] + up, pi[j] - up
        else:
            pi[i], pi[j] = pi[i] - down, pi[j] + down
        last = next((k for k in (i, j) if 1e-12 < pi[k] < 1 - 1e-12), None)
    return torch.tensor(pi).round().nonzero().flatten()


@DATASETS.register_module()
class Part(Dataset):
    """Samples ``start`` to ``stop - 1`` of a data set, with ``index`` from 0 on.

    Args:
        dataset: Config of the whole set.
        start: First sample.
        stop: The one after the last.

    Raises:
        UserError: The set has no such samples.
    """

    def __init__(self, dataset: dict, start: int, stop: int) -> None:
        self.dataset = ROOT_DATASETS.build(dataset)
        if not 0 <= start < stop <= len(self.dataset):
            raise UserError(
                f"Part: no samples {start} to {stop} of {len(self.dataset)}.",
                "Choose 0 <= start < stop <= the number of samples.",
            )
        self.start, self.stop = start, stop
        self.metainfo = getattr(self.dataset, "metainfo", {})

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {**self.dataset[self.start + index], "index": int(index)}


@DATASETS.register_module()
class Bought(Dataset):
    """Labelled samples and the ones of a pool that the teacher has answered.

    A sample has ``soft`` [C]: its label's one-hot row, or the teacher's probabilities;
    of the pool ``targets`` is the teacher's best class.

    Args:
        known: Config of the labelled samples.
        pool: Config of the pool.
        file: What :class:`RAD` wrote: ``index`` [b], ``soft`` [b, C].
    """

    def __init__(self, known: dict, pool: dict, file: str) -> None:
        self.known, self.pool = ROOT_DATASETS.build(known), ROOT_DATASETS.build(pool)
        found = load_checkpoint_file(file)
        self.index, self.soft = found["index"], found["soft"]
        self.metainfo = self.known.metainfo

    def __len__(self) -> int:
        return len(self.known) + len(self.index)

    def __getitem__(self, index: int) -> dict:
        if index < len(self.known):
            sample = self.known[index]
            label = torch.as_tensor(sample["targets"])
            return {**sample, "soft": F.one_hot(label, self.soft.shape[1]).float()}
        place = index - len(self.known)
        soft = self.soft[place]
        sample = self.pool[int(self.index[place])]
        return {**sample, "targets": soft.argmax(), "soft": soft}


@MODELS.register_module()
class RAD(TaughtStudent):
    r"""Robust active distillation (Baykal et al. 2023).

    The first round learns from the labelled samples. Every later round begins with
    purchases: g = 1 - margin of the student's probabilities on each point of the pool
    that has not been bought, :func:`game` with c = n (1 - m) for n points and a teacher
    of accuracy m, ``batch`` points by :func:`rad_marginals` and :func:`dep_round`, the
    teacher's probabilities for these; then a fresh student learns from all of
    ``Bought``::

        L = mean CE(soft, z_s),   soft = one-hot, or the teacher's probabilities

    Where the teacher may be wrong, points of the largest gain get the *least*
    probability inside the support: p is proportional to 1 / g.

    Stages of ``StagedLoop``: ``teacher`` where it is made here, ``round_1`` (labelled
    samples), ``round_2``, ...: ``work_dataloader`` is the pool in order, ``dataloader``
    a ``Bought`` with ``file="{folder}/bought.pth"``. Labels of the pool are only read
    to log how many bought ones are right.

    No code was released. The game with a budget c is a reconstruction; that c is
    n (1 - m), and that losses are 0, is from memory of the paper. The marginals of a
    batch are ours. A later student's first weights follow from the round, not from the
    seed.

    Args:
        student: Config of a network, N x ... -> N x C logits.
        teachers: Configs of one or more networks; the mean of probabilities answers.
        num_samples: Size of the pool.
        num_classes: C.
        batch: Points that are bought in a round.
        validation: Config of labelled samples that m is measured on; not needed with
            ``budget``.
        budget: c instead of n (1 - m); at most n is used.
        select: ``rad``; rivals ``margin`` (the largest gains), ``random``.
        seed: Of the draws.
        predict_on: ``student`` or ``teacher``.

    Raises:
        UserError: An unknown word, sizes below 1, or nothing that tells c.
    """

    default_stage = "round_1"
    work = {"round": "the pool, each sample once"}

    def __init__(
        self,
        student: dict,
        teachers: Sequence[dict],
        num_samples: int,
        num_classes: int,
        batch: int,
        validation: dict | None = None,
        budget: float | None = None,
        select: str = "rad",
        seed: int = 0,
        predict_on: str = "student",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(student, teachers, predict_on, init_cfg)
        one_of("RAD", select=(select, ("rad", "margin", "random")))
        if min(num_samples, num_classes - 1, batch) < 1:
            raise UserError(
                f"RAD: num_samples={num_samples}, num_classes={num_classes}, "
                f"batch={batch} leave nothing to choose.",
                "Give a pool, two classes or more, and a batch of 1 or more.",
            )
        if select == "rad" and validation is None and budget is None:
            raise UserError(
                "RAD: nothing says how often the teacher is wrong.",
                "Give `validation`, or `budget`.",
            )
        self.config, self.validation = student, validation
        self.batch, self.budget = batch, budget
        self.select, self.seed = select, seed
        self.register_buffer("soft", torch.zeros(num_samples, num_classes))
        self.register_buffer("order", torch.full((num_samples,), -1))

    def loss_round(
        self, inputs: Tensor, targets: Tensor, soft: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Cross-entropy with labels, or with ``soft`` [N, C] where it is there."""
        if soft is None:
            return self.loss_student(inputs, targets)
        return {"loss_soft": soft_cross_entropy(self.student(inputs), soft)}

    def wants_work(self, stage: str) -> str | None:
        """Nothing is bought before the first round."""
        return None if stage == "round_1" else super().wants_work(stage)

    @torch.no_grad()
    def start_stage(self, name: str, loader: Iterable | None, folder: Path) -> None:
        """Buy, write ``bought.pth``, and put a fresh student in its place.

        Raises:
            UserError: No pool, one of another size, or nothing left of it.
        """
        kind, _, number = name.partition("_")
        if kind != "round" or number == "1":
            return
        self.check_work(name, loader)
        z_s, z_t, truth = self._read(loader)
        if not (self.order == int(number)).any():  # else a killed start is done again
            free = (self.order < 0).nonzero().flatten()
            chosen = free[self.choose(z_s[free], int(number))]
            self.soft[chosen], self.order[chosen] = z_t[chosen], int(number)
        bought = (self.order >= 0).nonzero().flatten()
        if is_main_process():
            file = dict(index=bought.cpu(), soft=self.soft[bought].cpu())
            torch.save(file, folder / "bought.pth")
        known = bought[truth[bought] >= 0]
        right = (self.soft[known].argmax(1) == truth[known]).float().mean()
        MMLogger.get_current_instance().info(
            f"RAD: {len(bought)} labels are bought, {100 * right:.1f} % of them right."
        )
        with own_randomness(int(number), _STREAM):
            fresh = MODELS.build(self.config)
        self.student.load_state_dict(fresh.state_dict())

    @torch.no_grad()
    def choose(self, logits: Tensor, number: int = 0) -> Tensor:
        """Which ``batch`` points are bought: logits [n, C] -> their numbers.

        Args:
            logits: Of the student.
            number: Of the round; the draw follows from it and ``seed``.
        """
        if self.batch > len(logits):
            raise UserError(
                f"RAD: {len(logits)} points are left of the pool, batch={self.batch}.",
                "Make the pool larger, or buy fewer.",
            )
        with own_randomness(self.seed, number, _STREAM):
            if self.select == "random":
                return torch.randperm(len(logits))[: self.batch].to(logits.device)
            gains = (1 - margins(logits)).clamp(min=0)
            if self.select == "margin":
                return gains.argsort(descending=True, stable=True)[: self.batch]
            c = self.budget
            if c is None:
                c = len(gains) * (1 - self.accuracy())
            p, value = game(gains, budget=min(c, len(gains)))
            MMLogger.get_current_instance().info(
                f"RAD: {len(gains)} points, c = {c:.1f}, support "
                f"{int((p > 0).sum())}, batch {self.batch}, value {value:.3f}."
            )
            return dep_round(rad_marginals(p, gains, self.batch)).to(logits.device)

    @torch.no_grad()
    def accuracy(self) -> float:
        """m: the teacher's on ``validation``."""
        data = ROOT_DATASETS.build(self.validation)
        right = 0
        for rows in torch.arange(len(data)).split(256):
            samples = [data[int(i)] for i in rows]
            x = torch.stack([s["inputs"] for s in samples]).to(self.soft.device)
            y = torch.stack([torch.as_tensor(s["targets"]) for s in samples])
            answer = mean_probabilities(self.answers(x)).argmax(1)
            right += int((answer.cpu() == y).sum())
        return right / len(data)

    def _read(self, loader: Iterable) -> tuple[Tensor, Tensor, Tensor]:
        """The student's logits, the teacher's probabilities, labels of the pool."""
        rows, mode, device = [], self.training, self.soft.device
        self.train(False)
        for batch in loader:
            x = batch["inputs"].to(device)
            z_s, p_t = self.student(x).float(), mean_probabilities(self.answers(x))
            rows.append((batch["index"], batch["targets"], z_s, p_t))
        self.train(mode)
        if not rows:
            raise UserError("RAD has no pool to buy from.", "Set work_dataloader.")
        # Each process reads its share; the sampler may repeat some images.
        index, truth, z_s, p_t = (
            torch.cat(all_gather(torch.cat(part).to(device)))
            for part in zip(*rows, strict=True)
        )
        if not torch.equal(index.unique(), torch.arange(len(self.soft), device=device)):
            raise UserError(
                f"RAD was given {index.unique().numel()} points for num_samples="
                f"{len(self.soft)}.",
                "Set num_samples to the size of the pool, unshuffled.",
            )
        place = torch.empty(len(self.soft), dtype=torch.long, device=device)
        place[index] = torch.arange(len(index), device=device)
        return z_s[place], p_t[place], truth[place]
