"""Any folder of images: what counts, what is skipped, what stops."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pld_mmdet.adaptation.asked import Asked, came_later
from pld_mmdet.adaptation.folder import check_images, find_images
from pld_mmdet.detection.data.image_folder import ImageFolder, listed_images
from pld_mmdet.engine.data.images import image_fault
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import write_images

PIPELINE = [dict(type="LoadImageFromFile")]  # mmcv's, in whatever scope


def look(folder):
    return check_images(*find_images(folder))


def test_folder_is_searched_below_and_other_files_do_not_count(tmp_path):
    write_images(tmp_path, 4)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._000.png").write_bytes(b"what another system leaves beside a photo")
    (tmp_path / "folder.png").mkdir()
    found = look(tmp_path)
    assert found.files == ["000.png", "002.png", "sub/001.png", "sub/003.png"]
    assert found.sizes == ((96, 64), (96, 64))
    assert found.sentence() == f"4 images in {tmp_path}, 96 x 64 px"


def test_pattern_and_single_file(tmp_path):
    write_images(tmp_path, 4)
    root, files = find_images(f"{tmp_path}/**/*1.png")
    assert (root, files) == (tmp_path, ["sub/001.png"])
    assert find_images(tmp_path / "000.png") == (tmp_path, ["000.png"])
    odd = write_images(tmp_path / "with [brackets] and *", 2)
    assert len(find_images(odd)[1]) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("none", "does not exist"), ("none/*.png", "does not exist"), ("", "is empty")],
)
def test_nothing_there_is_one_sentence(tmp_path, name, sentence):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=sentence):
        find_images(folder / name)


def test_folder_of_other_files_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match=r"No image found .* \(1 other files"):
        find_images(tmp_path)


def test_corrupt_images_are_skipped_counted_and_named(tmp_path):
    write_images(tmp_path, 40)
    whole = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "002.png").write_bytes(b"")
    found = look(tmp_path)
    assert len(found.files) == 38
    assert dict(found.broken) == {"000.png": "truncated", "002.png": "empty file"}
    assert found.sentence().endswith("; 2 skipped")
    assert "000.png (truncated)" in found.broken_sentence()


def test_more_than_five_percent_broken_stops(tmp_path):
    write_images(tmp_path, 20)
    for name in ("000.png", "002.png"):
        (tmp_path / name).write_text("text with an image's name")
    with pytest.raises(UserError, match=r"2 of 20 images .* more than 5 %"):
        look(tmp_path)


def test_an_image_that_resizing_would_make_empty_counts_as_broken(tmp_path):
    write_images(tmp_path, 30)
    cv2.imwrite(str(tmp_path / "line.png"), np.zeros((3, 4000, 3), np.uint8))
    assert look(tmp_path).broken == [("line.png", "too thin, 4000 x 3 px")]


def test_one_image_and_one_broken_image(tmp_path):
    write_images(tmp_path, 1)
    assert look(tmp_path).files == ["000.png"]
    (tmp_path / "000.png").write_bytes(b"x")
    with pytest.raises(UserError, match="1 of 1 images"):
        look(tmp_path)


def strange_images(folder):
    """One file of each kind that a folder of photos can hold."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "gray.png"), colour[..., 0])
    cv2.imwrite(str(folder / "rgba.png"), np.dstack([colour, colour[..., :1]]))
    cv2.imwrite(str(folder / "deep.png"), colour.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "deep_gray.tif"), colour[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "photo.webp"), colour)
    Image.fromarray(colour).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(colour).convert("P").save(folder / "palette.png")
    Image.fromarray(colour).convert("1").save(folder / "bits.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(colour).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.zeros((100, 4000, 3), np.uint8)).save(folder / "thin.PNG")
    return folder


def test_every_kind_of_image_arrives_as_three_bytes_a_pixel(tmp_path):
    found = look(strange_images(tmp_path))
    assert found.broken == []
    assert len(found.files) == 10
    assert found.sizes == ((40, 40), (4000, 100))
    listed = tmp_path / "images.txt"
    listed.write_text("\n".join(found.files) + "\n")
    import_mmdet()  # registers the pipeline's transforms
    data = ImageFolder(str(tmp_path), files=str(listed), pipeline=PIPELINE)
    shapes = {}
    for item in data:
        assert item["img"].dtype == np.uint8
        shapes[item["img_path"].rpartition("/")[2]] = item["img"].shape
    assert shapes.pop("turned.jpg") == (60, 40, 3)  # as the photographer saw it
    assert shapes.pop("thin.PNG") == (100, 4000, 3)
    assert set(shapes.values()) == {(40, 60, 3)}


def test_list_of_files_fixes_the_images_and_their_order(tmp_path):
    write_images(tmp_path, 4)
    listed = tmp_path / "images.txt"
    listed.write_text("sub/003.png\n000.png\n")
    data = ImageFolder(str(tmp_path), files=str(listed))
    paths = [data.get_data_info(i)["img_path"] for i in range(len(data))]
    assert paths == [f"{tmp_path}/sub/003.png", f"{tmp_path}/000.png"]
    listed.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        ImageFolder(str(tmp_path), files=str(listed))
    with pytest.raises(UserError, match="does not exist"):
        ImageFolder(str(tmp_path), files=str(tmp_path / "none.txt"))


def test_a_name_that_no_list_can_hold_is_left_out_and_said(tmp_path):
    write_images(tmp_path, 60)
    image = (tmp_path / "000.png").read_bytes()
    names = [b"a\nb.png", b"c\r.png", b"Stra\xdfe.png", "e\u2028f\x85.png".encode()]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(image)
    found = look(tmp_path)
    assert dict(found.broken) == {
        "a\\nb.png": "its name has a line break",
        "c\\r.png": "its name has a line break",
        "Stra\\udcdfe.png": "its name is no UTF-8",
    }
    assert len(found.files) == 61
    # the others stand in a list and come back, whatever is a line elsewhere
    listed = tmp_path / "images.txt"
    listed.write_bytes(("\n".join(found.files) + "\n").encode())
    assert listed_images(listed) == found.files
    listed.write_bytes(b"a.png\r\nb.png\r\n")
    assert listed_images(listed) == ["a.png", "b.png"]
    files = find_images(tmp_path)[1]
    asked = Asked({}, None, found.broken)
    assert came_later(files, found.files, asked) == 0
    assert came_later([*files, "new.png"], found.files, asked) == 1


def test_a_link_loop_and_two_paths_to_a_file_count_once(tmp_path):
    write_images(tmp_path / "photos", 4)
    (tmp_path / "photos/sub/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos/sub")
    (tmp_path / "photos/alias.png").symlink_to("000.png")
    os.link(tmp_path / "photos/002.png", tmp_path / "photos/sub/hard.png")
    (tmp_path / "photos/nowhere.png").symlink_to("gone.png")
    (tmp_path / "photos/circle.png").symlink_to("circle.png")
    wanted = ["000.png", "002.png", "sub/001.png", "sub/003.png"]
    assert find_images(tmp_path / "photos")[1] == wanted
    assert find_images(f"{tmp_path}/photos/**/*.png")[1] == wanted
    assert find_images(f"{tmp_path}/photos/*.png")[1] == ["000.png", "002.png"]
    # the data set of a config counts them once, too
    data = ImageFolder(str(tmp_path / "photos"))
    listed = [data.get_data_info(i)["img_path"] for i in range(len(data))]
    assert listed == [f"{tmp_path}/photos/{name}" for name in wanted]
    # a folder elsewhere that is linked in belongs to it
    write_images(tmp_path / "elsewhere", 2, seed=3)
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    assert find_images(tmp_path / "photos")[1] == [
        "000.png", "002.png", "more/000.png", "more/sub/001.png", "sub/001.png",
        "sub/003.png",
    ]  # fmt: skip


def test_patterns_mean_what_a_shell_means(tmp_path):
    write_images(tmp_path, 4)
    write_images(tmp_path / "deep/er", 2)
    (tmp_path / ".hidden").mkdir()
    cv2.imwrite(str(tmp_path / ".hidden/009.png"), np.zeros((9, 9, 3), np.uint8))

    def found(pattern):
        return [f"{find_images(f'{tmp_path}/{pattern}')[1]}"]

    assert found("**/sub/*.png") == [
        "['deep/er/sub/001.png', 'sub/001.png', 'sub/003.png']"
    ]
    assert found("deep/**/00[01].png") == ["['er/000.png', 'er/sub/001.png']"]
    assert found("**/00?.png").pop().count("png") == 6
    assert found("**").pop().count("png") == 6


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_string_is_no_folder(text):
    with pytest.raises(UserError, match="empty string"):
        find_images(text)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that unfolds to many gigabytes, with right check sums."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_skipped_before_it_is_decoded(tmp_path, monkeypatch):
    write_images(tmp_path, 60)
    (tmp_path / "bomb.png").write_bytes(bomb(30000, 30000))
    (tmp_path / "wide.png").write_bytes(bomb(2**31 - 1, 2**31 - 1))
    decoded = []
    whole = cv2.imdecode
    monkeypatch.setattr(
        cv2, "imdecode", lambda *args: decoded.append(len(args[0])) or whole(*args)
    )
    found = look(tmp_path)
    assert dict(found.broken) == {
        "bomb.png": "too large, 30000 x 30000 px",
        "wide.png": "too large, 2147483647 x 2147483647 px",
    }
    assert len(decoded) == 60
    root, files = find_images(tmp_path)
    with pytest.raises(UserError, match=r"62 of 62 images .*too large, 96 x 64 px"):
        check_images(root, files, max_pixels=96 * 64 - 1)
    assert len(check_images(root, files, max_pixels=96 * 64).files) == 60
    # Pillow's own limit, which a user may have set, is as it was
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_whatever_a_decoder_raises_is_one_bad_file(tmp_path, monkeypatch):
    write_images(tmp_path, 60)
    rng = np.random.default_rng(0)
    kinds = (
        b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0\x08\0\0\0",
        b"MM\0*\xff\xff\xff\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"",
    )  # fmt: skip
    faults = {}
    for n, kind in enumerate(kinds):
        for suffix in (".bmp", ".tif", ".webp"):
            path = tmp_path / f"bad{n}{suffix}"
            path.write_bytes(kind + rng.bytes(200))
            faults[path.name] = image_fault(path)[0]
    assert None not in faults.values(), faults

    def explode(*args):
        raise RuntimeError("what a decoder says")

    monkeypatch.setattr(cv2, "imdecode", explode)
    assert image_fault(tmp_path / "000.png") == ("not decodable", None)


def test_a_tiff_that_only_opencv_knows_is_an_image(tmp_path):
    path = tmp_path / "depth.tif"
    cv2.imwrite(str(path), np.random.default_rng(0).random((40, 60, 3), np.float32))
    decodes = cv2.imread(str(path)) is not None  # OpenCV 5 no longer does
    expected = (None, (60, 40)) if decodes else ("not decodable", None)
    assert image_fault(path) == expected
    assert image_fault(path, max_pixels=2399) == ("too large, 60 x 40 px", None)


def test_a_file_larger_than_any_allowed_image_is_not_read(tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(bomb(4, 4))
    with path.open("r+b") as file:  # sparse: takes no space on the disk
        file.truncate(1 << 33)
        file.seek(-12, 2)
        file.write(bomb(4, 4)[-12:])
    assert image_fault(path) == ("too large, 8192 MB", None)


def test_deep_images_that_eight_bits_would_make_black_are_a_fault(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (20, 30), dtype=np.uint16)
    for name, image in dict(
        thermal=values,  # 12 bits in 16: at most 15 of 255
        depth=values * 2,  # 31 of 255
        night=(values // 300).astype(np.uint8),  # dark, but that is what it shows
        nothing=np.zeros_like(values),
    ).items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    faults = {p.stem: image_fault(p)[0] for p in tmp_path.iterdir()}
    black = f"black in 8 bits: its uint16 values end at {values.max()}"
    assert faults == dict(thermal=black, depth=None, night=None, nothing=None)


def test_pictures_in_other_formats_are_counted(tmp_path):
    write_images(tmp_path, 2)
    for name in ("a.HEIC", "b.heic", "c.cr2", "d.txt"):
        (tmp_path / name).touch()
    said = []
    assert len(find_images(tmp_path, said.append)[1]) == 2
    assert said == [
        f"Left out of {tmp_path}: 1 .cr2, 2 .heic; read are .png, .jpg, .jpeg, .bmp, "
        ".tif, .tiff, .webp."
    ]


def test_a_folder_with_brackets_before_a_pattern_is_that_folder(tmp_path):
    for name, count in (("shots[1]", 2), ("shots1", 4)):
        write_images(tmp_path / name, count)
    root, files = find_images(tmp_path / "shots[1]" / "*.png", print)
    assert (root, files) == (tmp_path / "shots[1]", ["000.png"])
    root, files = find_images(tmp_path / "shots[1]" / "**" / "*.png", print)
    assert files == ["000.png", "sub/001.png"]
    _, files = find_images(tmp_path / "shot*[12]" / "*.png", print)
    assert files == ["shots1/000.png", "shots1/002.png"]
