"""Whatever a hook or loop learns during a run is in the checkpoint, or has a reason."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "pld_mmdet"
KINDS = ("Hook", "Loop", "_FiniteMixin", "OptimWrapper", "Sampler")
SAVE = ("before_save_checkpoint", "state_dict")
# class -> attributes that are not saved, and why nothing is lost by that
REASONS = {
    "ExampleHook": (
        "_tap lives for one step; _next, _broken and kept are pictures for people who "
        "watch, drawn anew a moment later",
        "_tap _next _broken kept",
    ),
    "RunRecordHook": (
        "clocks of this process; what counts over restarts is read from run.json",
        "_begin _written _recorded _first_iter _minutes_before _record _loss _stage",
    ),
    "PseudoTruthHook": (
        "what the annotation file says, read again",
        "kinds candidates",
    ),
    "CollapseGuardHook": ("images of a window, from the loader", "_images"),
    "SafeCheckpointHook": (
        "in the message hub, which is saved",
        "last_ckpt keep_ckpt_ids",
    ),
    "KeptSamplesHook": ("lives inside one evaluation", "kept"),
    "ProgressHook": ("follows from the iteration", "_told"),
    "TeacherEMAHook": (
        "whether the counter, which is saved, was read; pairs of the networks' tensors",
        "_is_counting _pairs",
    ),
    "AdaBNLoop": ("follows from the iteration, which is saved", "_iter"),
    "FederatedLoop": (
        "follows from the iteration; loaders are built again and skip",
        "_iter _epoch _loaders",
    ),
    "OnlineLoop": ("follows from the iteration", "_iter _epoch"),
    "StagedLoop": (
        "follows from the iteration",
        "_iter _epoch _built _entered _reduced dataloader",
    ),
    "ResumableSampler": (
        "set by the resumed run before the first draw",
        "seed epoch _first _skipped",
    ),
    "SemiSampler": (
        "set by the resumed run, and by its loader, before the first draw",
        "seed epoch _first _skipped batch_size shares",
    ),
    "ScoredValLoop": ("lives inside one evaluation", "val_loss"),
    "_FiniteMixin": (
        "live inside one step; a checkpoint never lies in one",
        "_inner_count _norms _spoilt _statistics max_skipped_in_a_row",
    ),
    "FiniteOptimWrapper": ("saved by _FiniteMixin", "_in_a_row"),
    "FiniteAmpOptimWrapper": (
        "saved by _FiniteMixin, or lives inside one step",
        "_in_a_row skipped_steps _entered",
    ),
}
CHANGES = ("append", "add", "discard", "update", "extend", "clear", "pop")


def changed(method: ast.FunctionDef) -> set[str]:
    """Attributes of self that a method assigns or changes in place."""
    found = set()
    for node in ast.walk(method):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGES
        ):
            targets = [node.func.value]
        for target in targets:
            for part in ast.walk(target):
                if (
                    isinstance(part, ast.Attribute)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == "self"
                ):
                    found.add(part.attr)
    return found


def classes():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
            if isinstance(node, ast.ClassDef) and any(
                base.endswith(KINDS) for base in [node.name, *bases]
            ):
                yield path, node


def unsaved(node: ast.ClassDef, source: str) -> set[str]:
    methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
    learnt = set()
    for method in methods:
        if method.name not in ("__init__", "after_load_checkpoint", "load_state_dict"):
            learnt |= changed(method)
    texts = [ast.unparse(m) for m in methods if m.name in SAVE]
    if any("_STATE" in text for text in texts):  # names in a tuple of the module
        texts.append(source.partition("_STATE = (")[2].partition("\nACTION")[0][:400])
    saved = " ".join(texts)
    named = set(REASONS.get(node.name, ("", ""))[1].split())
    return {name for name in learnt - named if name.lstrip("_") not in saved}


def test_every_attribute_that_changes_during_a_run_is_saved_or_excused():
    wrong, seen = {}, set()
    for path, node in classes():
        seen.add(node.name)
        left = unsaved(node, path.read_text(encoding="utf-8"))
        if left:
            wrong[f"{path.name}:{node.name}"] = sorted(left)
    assert wrong == {}
    assert {"CollapseGuardHook", "OnlineLoop", "_FiniteMixin"} <= seen
    assert set(REASONS) <= seen  # no excuse for what is not there any more


def test_a_forgotten_counter_is_found():
    source = (
        "class CountHook(Hook):\n"
        "    def __init__(self):\n        self.n = 0\n"
        "    def after_train_iter(self, runner):\n        self.n += 1\n"
    )
    (node,) = ast.parse(source).body
    assert unsaved(node, source) == {"n"}
