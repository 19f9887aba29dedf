"""Makes the list that ``descriptions`` pins, out of an index of today; for maintainers.

    python -m pld_mmdet.language.data.pin_descriptions Packages Translation-en OUT

One text a source package and section; the twenty largest sections but those that name
what a package is for its archive and not what it is about.
"""

import hashlib
import lzma
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pld_mmdet.engine.run.optional import require
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.language.data.descriptions import Pinned, as_text, digest, stanzas

CLASSES = 20
NO_SUBJECT = (
    "debug", "doc", "introspection", "libdevel", "libs", "localization",
    "metapackages", "misc", "oldlibs", "tasks",
)  # fmt: skip
NEAR = 0.9  # cosine of tf-idf
_TAIL = 0.5  # of a text's squared length is left out of the first comparison


def near_pairs(texts: Sequence[str], above: float = NEAR) -> list[tuple[int, int]]:
    """Pairs of texts whose tf-idf vectors have a cosine above a bound.

    Two texts are compared only if they share a rare word: the commonest words of a
    text, which have half of its squared length, add at most .71 to a cosine.

    Args:
        texts: N of them.
        above: More than .71.

    Returns:
        Numbers, the smaller one first.
    """
    vectorizer = require("sklearn.feature_extraction.text", "classification")
    rows = vectorizer.TfidfVectorizer(dtype=np.float32).fit_transform(texts).tocsr()
    number = np.bincount(rows.indices, minlength=rows.shape[1])
    rare = rows.copy()
    for begin, end in zip(rows.indptr, rows.indptr[1:], strict=False):
        order = begin + np.argsort(-number[rows.indices[begin:end]], kind="stable")
        common = np.cumsum(rows.data[order] ** 2) <= _TAIL
        rare.data[order[common]] = 0
    rare.eliminate_zeros()
    columns, found = rows.T.tocsr(), []
    for begin in range(0, len(texts), 500):
        shared = (rare[begin : begin + 500] @ columns).tocoo()
        maybe = shared.data > above - _TAIL**0.5 - 1e-4
        one, other = shared.row[maybe] + begin, shared.col[maybe]
        cosine = np.asarray(rows[one].multiply(rows[other]).sum(1)).ravel()
        near = (cosine > above) & (one != other)
        found += np.sort(np.stack([one[near], other[near]], 1), 1).tolist()
    return sorted({(a, b) for a, b in found})


def groups(pairs: Sequence[tuple[int, int]], sources: Sequence[str]) -> list[int]:
    """Number of the first text that each one hangs together with.

    Args:
        pairs: Of numbers of texts.
        sources: Of the N texts; those of one source hang together.

    Returns:
        [N].
    """
    first = list(range(len(sources)))

    def head(n: int) -> int:
        while first[n] != n:
            first[n] = first[first[n]]
            n = first[n]
        return n

    of_source: dict[str, int] = {}
    same = [(of_source.setdefault(s, n), n) for n, s in enumerate(sources)]
    for a, b in [*same, *pairs]:
        low, high = sorted((head(a), head(b)))
        first[high] = low
    return [head(n) for n in range(len(sources))]


def split_of(name: str) -> str:
    """Test has a fifth of the groups, val a tenth, by the name of the first package."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < 0.2 else "val" if share < 0.3 else "train"


def pinned(packages: Path, translation: Path) -> list[Pinned]:
    """The set, in an order of hashes.

    Args:
        packages: Debian's ``Packages``.
        translation: Its ``Translation-en``.
    """
    texts = {
        (one["Package"], one["Description-md5"]): as_text(one["Description-en"])
        for one in stanzas(translation)
    }
    found = sorted(
        (
            one["Package"],
            one.get("Source", one["Package"]).split(" ")[0],
            one["Section"],
            texts[one["Package"], one["Description-md5"]],
        )
        for one in stanzas(packages)
        if (one["Package"], one.get("Description-md5")) in texts
    )
    sizes = Counter(row[2] for row in found if row[2] not in NO_SUBJECT)
    largest = {section for section, _ in sizes.most_common(CLASSES)}
    kept: dict[tuple[str, str], tuple] = {}
    for row in found:
        if row[2] in largest:
            kept.setdefault((row[1], row[2]), row)
    rows = sorted(kept.values())
    pairs = near_pairs(["\n".join(row[3]) for row in rows])
    heads = groups(pairs, [row[1] for row in rows])
    listed = [
        Pinned(name, section, split_of(rows[head][0]), digest(text))
        for (name, _, section, text), head in zip(rows, heads, strict=True)
    ]
    return sorted(listed, key=lambda one: one.digest)


def main(packages: str, translation: str, out: str) -> None:
    """Write the list."""
    rows = pinned(Path(packages), Path(translation))
    lines = ["\t".join((r.name, r.section, r.split, r.digest)) for r in rows]
    content = lzma.compress("".join(f"{one}\n" for one in lines).encode(), preset=9)
    write_atomic(out, lambda file: file.write(content), again="call it again")
    print(f"{len(rows)} texts, {Counter(row.split for row in rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
