"""Files that are broken are named, by every reader: pictures, arrays, sounds."""

import os
import struct
import wave
import zlib

import cv2
import numpy as np
import pytest

from pld_mmdet.audio.data.clips import WaveFolder
from pld_mmdet.audio.data.speech import WaveFiles, read_wave
from pld_mmdet.diffusion.networks.text import CaptionedImages
from pld_mmdet.engine.data.arrays import read_array
from pld_mmdet.engine.data.images import image_fault, read_image
from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.class_folder import ClassFolder
from pld_mmdet.shared.data.class_images import read_square
from pld_mmdet.shared.data.labelled_images import LabelledImages


def picture(path):
    """4 x 6: blue is 10, green 20, red 30."""
    cv2.imwrite(str(path), np.full((4, 6, 3), (10, 20, 30), np.uint8))
    return path


def bomb(path):
    """A PNG of 40000 x 40000 in its head, and nothing behind it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    parts = [struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))]
    parts.append(struct.pack(">I", 0) + b"IEND\xaeB`\x82")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def damage(path):
    content = bytearray(path.read_bytes())
    content[45] ^= 1
    path.write_bytes(content)


BROKEN = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-9]),
    "empty file": lambda p: p.write_bytes(b""),
    "no plain file": fifo,
    "too large, 40000 x 40000": bomb,
    "missing": lambda p: p.unlink(),
    "damaged": damage,
    "unreadable": lambda p: (p.unlink(), p.mkdir()),
    # a text whose last bytes are those of a PNG
    "not decodable": lambda p: p.write_bytes(b"hello IEND\xaeB`\x82"),
}


def test_a_whole_picture(tmp_path):
    path = picture(tmp_path / "a.png")
    found = read_image(path)
    assert found.shape == (4, 6, 3)
    assert found[2, 3].tolist() == [30, 20, 10]
    assert found.flags.c_contiguous
    assert image_fault(path) == (None, (6, 4))
    cv2.imwrite(str(path), np.array([[7, 26001]], np.uint16))
    assert read_image(path, colours=False).tolist() == [[7, 26001]]
    cv2.imwrite(str(path), np.array([[[1, 2, 3, 4]]], np.uint8))
    assert read_image(path, colours=False).tolist() == [[[3, 2, 1, 4]]]


@pytest.mark.parametrize("words", BROKEN)
@pytest.mark.parametrize("reader", ["folder", "labelled", "square", "captions"])
def test_every_reader_names_a_broken_picture(tmp_path, words, reader):
    (tmp_path / "cat").mkdir()
    path = picture(tmp_path / "cat" / "a.png")
    (tmp_path / "captions.json").write_text('{"cat/a.png": [1, 2]}')
    read = {
        "folder": lambda: ClassFolder(str(tmp_path), 4),
        "labelled": lambda: LabelledImages(str(tmp_path), 4),
        "captions": lambda: CaptionedImages(str(tmp_path), 4),
        "square": lambda: [read_square(path, 4)],
    }[reader]
    assert len(read()) == 1
    data = [None] if reader == "square" else read()
    BROKEN[words](path)
    with pytest.raises(UserError, match=words) as caught:
        read_square(path, 4) if reader == "square" else data[0]
    assert str(path) in caught.value.what
    assert "Replace the file" in caught.value.fix


@pytest.mark.parametrize("name", ["../b.png", "/etc/b.png", "cat/../../b.png"])
def test_captions_stay_in_their_folder(tmp_path, name):
    root = tmp_path / "data"
    root.mkdir()
    picture(tmp_path / "b.png")
    (root / "captions.json").write_text(f'{{"{name}": [1]}}')
    with pytest.raises(UserError, match="is outside"):
        CaptionedImages(str(root), 4)


def test_arrays(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6).reshape(2, 3))
    assert read_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_array(path, mapped=True)[1, 2] == 5
    whole = path.read_bytes()
    for spoiled in (whole[:-3], whole[:20], b"", b"hello"):
        path.write_bytes(spoiled)
        for mapped in (False, True):
            with pytest.raises(UserError, match=r"a\.npy cannot be read"):
                read_array(path, mapped)
    np.save(path, np.array([{}]))  # pickled
    with pytest.raises(UserError, match="cannot be read"):
        read_array(path)
    np.save(path, np.array(["text"]))
    with pytest.raises(UserError, match="no array of numbers"):
        read_array(path)
    fifo(path)
    with pytest.raises(UserError, match="no plain file"):
        read_array(path)
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        read_array(path)


def sound(path, samples=400):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.arange(samples).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("words", "spoil"),
    [
        ("it has 380 of 400 samples", lambda p: p.write_bytes(p.read_bytes()[:-40])),
        ("it has 1 sample", lambda p: sound(p, 1)),
        ("it is empty", lambda p: sound(p, 0)),
        ("it is empty", lambda p: p.write_bytes(b"")),
        ("RIFF", lambda p: p.write_bytes(b"hello, this is no sound at all")),
        ("no plain file", fifo),
        ("No such file", lambda p: p.unlink()),
        ("plain file|directory", lambda p: (p.unlink(), p.mkdir())),
    ],
)
def test_broken_sounds_are_named(tmp_path, words, spoil):
    (tmp_path / "dog").mkdir()
    path = sound(tmp_path / "dog" / "a.wav")
    (tmp_path / "list.txt").write_text("dog/a.wav\n")
    files = WaveFiles("list.txt", str(tmp_path))
    folder = WaveFolder(str(tmp_path))
    assert len(read_wave(path, 16000)) == 400
    spoil(path)
    for data in (files, folder):
        with pytest.raises(UserError, match=words) as caught:
            data[0]
        assert str(path) in caught.value.what


def test_a_list_without_sounds(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(UserError, match=r"list\.txt names no sound"):
        WaveFiles("list.txt", str(tmp_path))
