"""Spoken words out of packages of a few bytes: sides, readers, what is refused."""

import io
import wave
from argparse import Namespace

import numpy as np
import pytest

from pld_mmdet.audio.data import prompts
from pld_mmdet.audio.data.clips import WaveFolder
from pld_mmdet.audio.data.speech import WaveFiles
from pld_mmdet.errors import UserError
from pld_mmdet.shared import unpacking
from pld_mmdet.shared.packages import packages, read_members
from tests.shared.fake_packages import deb_of, member, package, tar_of

SOUNDS = "usr/share/asterisk/sounds/{}_XX/{}/{}.wav"


def sound(level):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.full(40, level, "<i2").tobytes())
    return out.getvalue()


def spoken(language, level):
    words = [*(("digits", str(n)) for n in range(10)), ("letters", "a")]
    return {
        SOUNDS.format(language, kind, word): sound(level + n)
        for n, (kind, word) in enumerate(words)
    }


@pytest.fixture
def given(tmp_path, monkeypatch):
    """English and Russian: 0 to 9 and a, each of another loudness."""
    monkeypatch.setenv("PLD_MMDET_CACHE", str(tmp_path / "cache"))
    table, pinned = ["package,path,bytes,sha256"], {}
    for language, level in (("en", 100), ("ru", 200)):
        name = f"asterisk-core-sounds-{language}-wav"
        files = spoken(language, level)
        pinned[name] = package(
            tmp_path / "given",
            deb_of(tar_of({**files, "usr/bin/other": b"x"})),
            name=name,
            file=f"{name}_1.0-1_all.deb",
        )
        (tmp_path / "given/toys_1.0-1_all.deb").rename(
            tmp_path / "given" / pinned[name].file
        )
        rows = [member(path, content) for path, content in files.items()]
        table += [f"{name},{one.path},{one.bytes},{one.sha256}" for one in rows]
    (tmp_path / "prompts.csv").write_text("\n".join(table))
    monkeypatch.setattr(prompts, "MEMBERS", tmp_path / "prompts.csv")
    monkeypatch.setattr(prompts, "packages", lambda: pinned)
    return tmp_path / "given"


def prepared(given, root):
    prompts.prepare(Namespace(root=root, given=given, overwrite=False))
    return root


def test_the_readers_of_the_family_take_it(given, tmp_path, capsys):
    root = prepared(given, tmp_path / "data")
    assert "word: 21 recordings (en 11, ru 10)" in capsys.readouterr().out
    train = WaveFolder(str(root / "language/train"), sample_rate=8000, size=50)
    assert train.metainfo["classes"] == ("en", "ru")
    listed = WaveFiles("train.txt", str(root / "language"), 8000, None, 1)
    assert len(listed) == len(train)
    word = WaveFolder(str(root / "word/en"), sample_rate=8000, size=40)
    # 0 to 9 and a: its label is 10, its loudness 110 of 32768
    assert word.metainfo["classes"][word[10]["targets"]] == "a"
    assert word[10]["inputs"].tolist() == [110 / 32768] * 40
    before = {path: path.stat().st_ino for path in root.rglob("*.wav")}
    lost = root / "word/ru/7/digits-7.wav"
    lost.unlink()
    prepared(given, root)  # goes on
    assert lost.read_bytes() == sound(207)
    kept = {path: path.stat().st_ino for path in before if path != lost}
    assert kept.items() <= before.items()


def test_a_word_is_on_one_side_in_every_language():
    rows = read_members(prompts.MEMBERS)
    assert len(rows) == 830
    assert {row["package"] for row, _ in rows} <= packages().keys()
    assert len({one.sha256 for _, one in rows}) == 830  # no recording twice
    sides, counts = {}, {}
    for row, one in rows:
        language = prompts.language_of(row["package"])
        place = prompts.places(language, one.path)[0].split("/")
        word = place[3].partition("-")[2]
        assert sides.setdefault(word, place[1]) == place[1]
        counts[place[1]] = counts.get(place[1], 0) + 1
    assert counts == {"train": 478, "val": 116, "test": 236}


@pytest.mark.parametrize(
    ("language", "path", "word"),
    [("en", "x/digits/30.wav", "word/en/30/digits-30.wav"),
     ("en", "x/letters/q.wav", "word/en/q/letters-q.wav"),
     ("ru", "x/letters/q.wav", None),
     ("it", "x/digits/a.wav", None),  # a word, not the letter
     ("fr", "x/digits/h-7.wav", None), ("en", "x/letters/dash.wav", None)],
)  # fmt: skip
def test_words_that_all_speakers_say(language, path, word):
    assert prompts.places(language, path)[1:] == ([word] if word else [])


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_package_that_is_another_is_not_opened(given, tmp_path, monkeypatch, harm):
    file = given / "asterisk-core-sounds-ru-wav_1.0-1_all.deb"
    content = file.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes(content[:-9] if harm == "cut" else changed)
    opened, real = [], unpacking._of_deb
    monkeypatch.setattr(unpacking, "_of_deb", lambda f: opened.append(f) or real(f))
    with pytest.raises(UserError, match="it was not opened"):
        prepared(given, tmp_path / "data")
    assert [path.name.split("-")[3] for path in opened] == ["en"]
    assert not list((tmp_path / "data").rglob("*/ru/*"))


def test_a_foreign_folder_stays(given, tmp_path):
    (tmp_path / "data/word").mkdir(parents=True)
    with pytest.raises(UserError, match="has not made"):
        prepared(given, tmp_path / "data")
