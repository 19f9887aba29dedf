"""Any folder of images: what counts, what is skipped, what stops."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pld_mmdet.adaptation.folder import check_images, find_images
from pld_mmdet.detection.data.image_folder import ImageFolder
from pld_mmdet.engine.stack import import_mmdet
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
