"""Debian's descriptions: which ones, on which side, and what a later index changes."""

import gzip
import json
import lzma
from argparse import Namespace
from collections import Counter, defaultdict

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.language.data import descriptions, pin_descriptions
from pld_mmdet.language.data.descriptions import Pinned, as_text, digest
from pld_mmdet.language.data.lines import TextLines
from pld_mmdet.reading import misfit
from pld_mmdet.shared import package_clients as clients

TOPICS = {"games": "a game of chess number", "net": "a server of mail number"}


def stanza(name, line, *more):
    text = "\n".join([line, *(f" {one}" for one in more)])
    return f"Package: {name}\nDescription-md5: {name}\nDescription-en: {text}\n\n"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Twelve texts of two sections; games/0 has no paragraph."""
    rows, index = [], ""
    for section, line in TOPICS.items():
        for n in range(6):
            more = [] if (section, n) == ("games", 0) else ["It is", ".", f"no. {n}"]
            index += stanza(f"{section}{n}", f"{line} {n}", *more)
            text = f"{line} {n}", f"It is no. {n}" if more else ""
            split = {4: "val", 5: "test"}.get(n, "train")
            rows.append(Pinned(f"{section}{n}", section, split, digest(text)))
    monkeypatch.setenv("PLD_MMDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(descriptions, "read_pinned", lambda: rows)
    monkeypatch.setattr(descriptions, "LABELLED", (2, 4))
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "Translation-en.xz").write_bytes(lzma.compress(index.encode()))
    return folder


def prepared(given, root):
    descriptions.prepare(Namespace(root=root, given=given, overwrite=False))
    return root


def lines(root, name):
    return [json.loads(line) for line in (root / f"{name}.jsonl").open()]


def test_files_for_the_readers(given, tmp_path, capsys):
    root = prepared(given, tmp_path / "data")
    assert "train: 8 texts (games 4, net 4)" in capsys.readouterr().out
    assert lines(root, "val") == [
        {"text": "a game of chess number 4\nIt is no. 4", "label": 0, "name": "games4"},
        {"text": "a server of mail number 4\nIt is no. 4", "label": 1, "name": "net4"},
    ]
    assert [one["name"] for one in lines(root, "train_4")] == [
        "games0", "net0", "games1", "net1"
    ]  # fmt: skip
    assert lines(root, "train_2") == lines(root, "train_4")[:2]
    assert len(lines(root, "unlabelled")) == 8
    assert {*lines(root, "unlabelled")[0]} == {"text"}
    pairs = TextLines("pairs_train.jsonl", ("text", "pair"), str(root))
    assert len(pairs) == 7
    assert pairs[0]["pair"] == "It is no. 1"


def test_the_encoder_takes_it(given, tmp_path):
    from pld_mmdet.language.data.text import EncodedText

    root = prepared(given, tmp_path / "data")
    for name in ("train", "train_2", "unlabelled"):
        assert all(misfit(o, EncodedText.entry) is None for o in lines(root, name))


def changed(given, old, new):
    path = given / "Translation-en.xz"
    text = lzma.decompress(path.read_bytes()).decode()
    assert old in text
    path.unlink()
    (given / "Translation-en.gz").write_bytes(
        gzip.compress(text.replace(old, new).encode())
    )


def test_a_later_index_says_how_many_changed(given, tmp_path, capsys):
    changed(given, "mail number 5", "mails number 5")
    root = prepared(given, tmp_path / "data")
    assert "1 of 12 texts have changed or are gone" in capsys.readouterr().out
    assert [one["name"] for one in lines(root, "test")] == ["games5"]
    assert json.loads((root / "descriptions.json").read_text())["lost"] == 1


def test_another_index_is_refused(given, tmp_path):
    changed(given, "number", "Nr.")
    with pytest.raises(UserError, match=r"has 0 of the 12 texts .*bookworm"):
        prepared(given, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.jsonl"))


@pytest.mark.parametrize("harm", ["cut", "empty", "large", "binary"])
def test_a_broken_index(given, tmp_path, monkeypatch, harm):
    path = given / "Translation-en.xz"
    whole = path.read_bytes()
    content = {
        "cut": whole[:-20],
        "empty": b"",
        "large": whole,
        "binary": b"\xff\xfe" * 9,
    }[harm]
    path.write_bytes(content)
    if harm == "large":
        monkeypatch.setattr(descriptions, "_LARGEST", 99)
    reason = "holds no descriptions" if harm == "empty" else "cannot be read"
    with pytest.raises(UserError, match=reason) as caught:
        prepared(given, tmp_path / "data")
    assert "Get Translation-en.xz" in caught.value.fix


def test_no_index(given, tmp_path, monkeypatch):
    (given / "Translation-en.xz").unlink()
    with pytest.raises(UserError, match=r"does not hold Translation-en\.xz"):
        prepared(given, tmp_path / "data")
    monkeypatch.setattr(clients.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="there is no apt-get here") as caught:
        prepared(None, tmp_path / "data")
    assert "add --from DIR" in caught.value.fix


def test_apt_leaves_the_index_in_the_cache(given, tmp_path, monkeypatch):
    index = lzma.decompress((given / "Translation-en.xz").read_bytes())

    def update(command, package, place, say):
        assert command[-1] == "update"
        (place / "lists/deb_Translation-en").write_bytes(index)
        return 0, ""

    monkeypatch.setattr(clients, "_client", update)
    one = prepared(None, tmp_path / "one")
    monkeypatch.setattr(clients, "_client", None)  # not asked again
    other = prepared(None, tmp_path / "other")
    assert lines(one, "train") == lines(other, "train")
    kept = [path.name for path in (tmp_path / "cache").iterdir()]
    assert kept == ["Translation-en-bookworm"]


def test_no_network(given, tmp_path, monkeypatch):
    words = "Err:1 http://x.test\nE: Could not resolve 'deb.debian.org'"
    monkeypatch.setattr(clients, "_client", lambda *_: (100, words))
    with pytest.raises(UserError, match=r"be fetched .*Could not resolve"):
        prepared(None, tmp_path / "data")


def test_a_foreign_folder_stays(given, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text("mine")
    with pytest.raises(UserError, match="has not made"):
        prepared(given, tmp_path / "data")
    assert (tmp_path / "data/train.jsonl").read_text() == "mine"


def test_layout_of_a_description():
    assert as_text("A tool\n It does\n  this\n .\n and that.") == (
        "A tool", "It does this and that."
    )  # fmt: skip
    assert as_text("A tool") == ("A tool", "")
    # sha256("A tool\n"), by hand: printf 'A tool\n' | sha256sum
    assert digest(("A tool", "")) == "f3fb80f007"


class TestTheList:
    def test_what_is_committed(self):
        assert descriptions.PINNED.stat().st_size < 1_500_000
        rows = descriptions.read_pinned()
        counts = Counter(row.split for row in rows)
        assert counts == {"train": 19760, "val": 2881, "test": 5663}
        assert len({(row.name, row.section) for row in rows}) == len(rows)
        train = Counter(row.section for row in rows if row.split == "train")
        assert len(train) == 20
        assert min(train.values()) >= max(descriptions.LABELLED) // 20
        sides = defaultdict(set)
        for row in rows:
            sides[row.digest].add(row.split)
        assert all(len(side) == 1 for side in sides.values())

    def test_near_pairs(self):
        texts = [
            "red fox jumps over lazy dogs", "an abacus", "red fox jumps over lazy dog",
            "red fox jumps over lazy dogs again", "a bell", "",
            "red fox jumps over lazy dogs",
        ]  # fmt: skip
        # 0 and 6 are equal; one more word, or another one, is farther than .9
        assert pin_descriptions.near_pairs(texts) == [(0, 6)]
        nearer = pin_descriptions.near_pairs(texts, 0.8)
        assert nearer == [(0, 3), (0, 6), (3, 6)]
        long = " ".join(f"word{n}" for n in range(40))  # no word weighs much
        assert pin_descriptions.near_pairs([long, "an abacus", long]) == [(0, 2)]

    def test_near_pairs_leave_none_out(self):
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = ["bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay", "koi"]
        texts = [
            " ".join(words[(n * step) % 10] for n in range(2 + step % 5))
            for step in range(1, 60)
        ]
        rows = TfidfVectorizer().fit_transform(texts)
        cosine = (rows @ rows.T).toarray()
        all_pairs = [(a, b) for b in range(59) for a in range(b) if cosine[a, b] > 0.9]
        assert len(all_pairs) > 20
        assert pin_descriptions.near_pairs(texts) == sorted(all_pairs)

    def test_groups(self):
        # 0-3 near, 3 and 5 of one source, 1 and 2 of one source; 4 alone
        sources = ["a", "b", "b", "c", "d", "c"]
        assert pin_descriptions.groups([(0, 3)], sources) == [0, 1, 1, 0, 4, 0]
        assert pin_descriptions.groups([(1, 5), (0, 3)], sources)[2] == 0
        assert pin_descriptions.groups([], []) == []

    def test_one_text_a_source_and_section(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pin_descriptions, "CLASSES", 1)
        table = [("b-one", "src", "net"), ("a-two", "src", "net"), ("c", "", "net"),
                 ("d", "", "libs"), ("e", "", "libs"), ("f", "", "libs"),
                 ("g", "", "libs"), ("h", "", "games")]  # fmt: skip
        packages = "".join(
            f"Package: {name}\nDescription-md5: {name}\nSection: {section}\n"
            + (f"Source: {source} (1.2)\n" if source else "")
            + "\n"
            for name, source, section in table
        )
        (tmp_path / "P").write_text(packages)
        words = dict(
            a="elk", b="ox", c="owl", d="bat", e="cow", f="hen", g="pig", h="rat"
        )
        (tmp_path / "T").write_text(
            "".join(stanza(name, words[name[0]]) for name, *_ in table)
        )
        rows = pin_descriptions.pinned(tmp_path / "P", tmp_path / "T")
        assert sorted(row.name for row in rows) == ["a-two", "c"]
        pin_descriptions.main(
            str(tmp_path / "P"), str(tmp_path / "T"), tmp_path / "x.xz"
        )
        assert descriptions.read_pinned(tmp_path / "x.xz") == rows
