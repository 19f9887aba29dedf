"""One network of a training checkpoint as a plain detector checkpoint."""

import ast
import inspect
import re
from pathlib import Path

from pld_mmdet.engine.state.checkpoint import (
    load_checkpoint_file,
    save_atomic,
    to_plain,
)
from pld_mmdet.engine.state.files import keep_inputs
from pld_mmdet.engine.state.newest import numbered_checkpoints
from pld_mmdet.engine.state.provenance import file_sha256
from pld_mmdet.engine.state.weights import report_mismatch, require_finite
from pld_mmdet.errors import UserError

_NETWORKS = ("teacher", "student")


def export_detector(
    checkpoint: str | Path,
    out: str | Path,
    network: str | None = None,
    model: dict | None = None,
    mean_of: int = 1,
) -> str:
    """Write the weights of one network without prefix, and the class names.

    Args:
        checkpoint: Of a run with two networks, or of a plain detector (which then only
            loses its training state).
        out: The file to write.
        network: ``teacher`` or ``student``; None takes what ``predict_on`` says in the
            config text inside the checkpoint, or its default in the model named there.
        model: Model config to load the result into, strictly, before it is written; of
            a wrapper its ``detector``.
        mean_of: The plain mean of so many numbered checkpoints, the newest of the
            checkpoint's folder, instead of the checkpoint itself; whole numbers in it
            (batch counters) are the newest's.

    Returns:
        What was exported: ``teacher``, ``student`` or ``detector``.

    Raises:
        UserError: If the network is not in the checkpoint, the result does not fit or
            is not finite, ``out`` is a checkpoint that is read, or there are
            fewer than ``mean_of``.
    """
    files = [checkpoint] if mean_of == 1 else _newest(checkpoint, mean_of)
    keep_inputs(out, files, "OUT")
    parts = [_network_of(file, network) for file in files]
    state, meta, network = parts[-1]
    if len(parts) > 1:
        state = _mean([part for part, *_ in parts], files)
    if model is None:
        require_finite(state, str(checkpoint))
    else:
        _check_fits(model, state, str(checkpoint))
    kept = {k: meta[k] for k in ("dataset_meta", "epoch", "iter", "seed") if k in meta}
    kept["exported_network"] = network or "detector"
    kept["exported_from_sha256"] = ", ".join(map(file_sha256, files))
    save_atomic(to_plain({"meta": kept, "state_dict": dict(state)}), out)
    return kept["exported_network"]


def plain_state(checkpoint: str | Path) -> dict:
    """Weights of the network that is the result, by a plain detector's names.

    Args:
        checkpoint: Of a run with two networks, or of a plain detector.
    """
    return dict(_network_of(checkpoint, None)[0])


def _network_of(
    checkpoint: str | Path, network: str | None
) -> tuple[dict, dict, str | None]:
    """A checkpoint's weights of one network, its meta, and which one it is."""
    content = load_checkpoint_file(checkpoint)
    state = content.get("state_dict", content)
    meta = content.get("meta") or {}
    inside = [n for n in _NETWORKS if any(k.startswith(f"{n}.") for k in state)]
    if inside:
        network = network or _result_network(str(meta.get("cfg") or ""))
        if network is None:
            raise UserError(
                f"{checkpoint} holds {' and '.join(inside)} and does not say which is "
                "the result.",
                "Choose with --network teacher or --network student.",
            )
        start = f"{network}."
        state = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
    if network is not None and network not in inside:
        raise UserError(
            f"{checkpoint} holds no {network} (it holds "
            f"{' and '.join(inside) or 'a plain detector'}).",
            "Choose another --network, or leave it out.",
        )
    if not state:
        raise UserError(f"{checkpoint} holds no weights.", "Name another checkpoint.")
    return state, meta, network


def _newest(checkpoint: str | Path, count: int) -> list[Path]:
    found = numbered_checkpoints(Path(checkpoint).parent)[-count:]
    if len(found) < count or count < 1:
        raise UserError(
            f"A mean of {count} checkpoints is asked for, and {Path(checkpoint).parent}"
            f" holds {len(found)} with a number.",
            "Ask for fewer, or let the run keep more: default_hooks.checkpoint."
            "max_keep_ckpts.",
        )
    return found


def _mean(states: list[dict], files: list[Path]) -> dict:
    """The mean of each tensor, in double precision; whole numbers of the last."""
    newest = states[-1]
    for state, file in zip(states, files, strict=True):
        if {k: v.shape for k, v in state.items()} != {
            k: v.shape for k, v in newest.items()
        }:
            raise UserError(
                f"{file} and {files[-1]} hold different networks.",
                "Average checkpoints of one run only.",
            )
    return {
        key: value
        if not value.is_floating_point()
        else (sum(state[key].double() for state in states) / len(states)).to(value)
        for key, value in newest.items()
    }


def _result_network(config_text: str) -> str | None:
    # searched, not executed: the text comes out of a file
    match = re.search(r"predict_on=['\"](teacher|student)['\"]", config_text)
    return match.group(1) if match else _default_network(config_text)


def _default_network(config_text: str) -> str | None:
    """What the model of a config takes as its result when the config is silent."""
    try:
        statements = ast.parse(config_text).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    kinds = [
        word.value.value
        for one in statements
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "model"
        for word in getattr(one.value, "keywords", ())
        if word.arg == "type" and isinstance(word.value, ast.Constant)
    ]
    if not kinds or not isinstance(kinds[-1], str):
        return None
    from pld_mmdet.engine.run.stack import import_mmdet
    from pld_mmdet.registry import MODELS

    import_mmdet()
    bases = getattr(MODELS.get(kinds[-1]), "__mro__", ())
    for base in bases:
        own = vars(base).get("default_result")
        taken = inspect.signature(base.__init__).parameters.get("predict_on")
        if own or (taken is not None and taken.default in _NETWORKS):
            return own or taken.default
    return None


def _check_fits(model: dict, state: dict, source: str) -> None:
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, DefaultScope

    from pld_mmdet.engine.run.stack import import_mmdet

    import_mmdet()
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = MODELS.build(ConfigDict(model.get("detector", model)))
    report_mismatch(detector, state, source)
