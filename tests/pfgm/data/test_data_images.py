"""Folders and zips of pictures: what is converted, what is refused and how it is named, and the cache."""

import io
import logging
import multiprocessing
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.describe import describe, text
from pfgm.data.errors import DataError
from pfgm.data.pictures import cache as cache_module
from pfgm.data.pictures import gallery as gallery_module

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(folder, n: int = 6, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    """n PNG files, and what they hold as (n, C, H, W)."""
    made = [pixels(height, width, channels, seed) for seed in range(n)]
    for k, image in enumerate(made):
        Image.fromarray(image).save(folder / f"{k:03}.png")
    return np.stack([m[None] if channels == 1 else m.transpose(2, 0, 1) for m in made])


def read(path, **keys):
    return load_data(DataConfig(name="images", path=str(path), **keys))


def stored(data) -> np.ndarray:
    return data.raw.stored.numpy().reshape(-1, *data.info.shape)


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes | None = None) -> bytes:
    """A PNG by its chunks, so that its header can say what its pixels do not."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows or b"")) + chunk(b"IEND", b"")


def test_a_folder_with_subfolders_is_read_pixel_by_pixel(folder):
    (folder / "cats").mkdir()
    (folder / "a dog").mkdir()
    whole = fill(folder, 4)
    (folder / "003.png").rename(folder / "a dog" / "ü.PNG")
    (folder / "001.png").rename(folder / "cats" / "1.png")
    (folder / "labels.csv").write_text("hello")
    (folder / "._000.png").write_bytes(b"a resource fork")
    data = read(folder)
    assert data.info.shape == (3, 8, 8) and data.raw.stored.dtype == torch.uint8
    assert np.array_equal(stored(data), whole[[0, 2, 3, 1]])  # 000, 002, a dog/ü, cats/1: by name
    assert data.how == "4 pictures, 2 other files left alone"


def as_zip(folder):
    """The same files as a zip beside the folder."""
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def test_other_files_are_named_and_counted(folder):
    fill(folder, 4)
    assert read(folder).notes == ()
    for name in ("LICENSE", "labels.csv", ".hidden"):
        (folder / name).write_text("hello", encoding="utf-8")
    for path in (folder, as_zip(folder)):
        assert read(path).notes == ("2 other files beside the pictures are left alone: LICENSE, labels.csv",)
    (folder / "gone").symlink_to(folder / "nowhere")
    assert read(folder).notes[1] == "1 of them cannot be read, and may be pictures: gone"
    assert "note" in text(describe(read(folder)))


def test_a_picture_without_its_suffix_is_not_passed_over(folder):
    fill(folder, 6)
    (folder / "004.png").rename(folder / "IMG_4")
    (folder / "005.png").rename(folder / "old.bak")
    for path in (folder, as_zip(folder)):
        with pytest.raises(DataError, match=r"^data\.path: 2 files in .* are pictures .* rename them.*: IMG_4, old\.bak$"):
            read(path)
    (folder / "IMG_4").rename(folder / "IMG_4.png")
    (folder / "old.bak").rename(folder / "old.png")
    assert read(folder).info.n == 6


def test_what_loses_nothing_is_converted(folder):
    grey, colour = pixels(8, 8, 1), pixels(8, 8, 3)
    few = (colour // 128 * 128).astype(np.uint8)
    Image.fromarray(grey).save(folder / "a_grey.png")
    Image.fromarray(colour).save(folder / "b_colour.bmp")
    Image.fromarray(few).quantize(8).save(folder / "c_palette.png")
    Image.fromarray(np.dstack([colour, np.full((8, 8), 255, np.uint8)])).save(folder / "d_opaque.png")
    Image.fromarray(grey > 128).save(folder / "e_bits.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(folder / "f_turned.tif", exif=exif)
    data = read(folder, channels=3)
    expected = [np.repeat(grey[None], 3, 0), colour.transpose(2, 0, 1), few.transpose(2, 0, 1), colour.transpose(2, 0, 1)]
    expected += [np.repeat((grey > 128)[None] * np.uint8(255), 3, 0), np.rot90(colour, -1).transpose(2, 0, 1)]
    assert np.array_equal(stored(data), np.stack(expected))
    for words in (
        "palette made RGB in 1",
        "opaque alpha dropped in 1",
        "turned as the camera says in 1",
        "grey repeated as RGB in 2",
    ):
        assert words in data.how
    with pytest.raises(
        DataError, match=r"data\.channels: .* has 2 grey \(a_grey.png, …\) and 4 colour pictures; say channels: 3"
    ):
        read(folder)
    assert read(folder, channels=1).info.shape == (1, 8, 8)
    assert np.array_equal(stored(read(folder, channels=1))[0, 0], grey)


def test_centre_crop_and_size(folder):
    wide = np.zeros((8, 20, 3), np.uint8)
    wide[:, 6:14] = 200
    for k in range(4):
        Image.fromarray(wide + np.uint8(k)).save(folder / f"{k}.png")
    data = read(folder, size=4)
    assert np.array_equal(stored(data)[0], np.full((3, 4, 4), 200))
    assert data.how == "4 pictures, centre squares cut out, resized to 4 × 4 by Lanczos' filter from 8 to 8 pixels"
    assert read(folder, crop="center").info.shape == (3, 8, 8)
    assert "4 of them enlarged" in read(folder, size=16).how
    assert read(folder).info.shape == (3, 8, 20)
    with pytest.raises(DataError, match=r"4 of 4 pictures .* 0.png: 20 × 8 is not square; data.crop: center cuts it"):
        read(folder, size=4, crop="none")


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Every kind of picture that cannot be used: name → (content, words of its reason)."""

    def saved(image: Image.Image, kind: str, **options: object) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    colour = Image.fromarray(pixels(8, 8))
    good = saved(colour, "PNG")
    clear = colour.copy()
    clear.putalpha(100)
    palette = colour.quantize(16)
    frames = [Image.fromarray(pixels(8, 8, 3, seed)) for seed in range(3)]
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 255
    two_bytes = b"".join(b"\0" + bytes(48) for _ in range(8))
    return {
        "animated.gif": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "has 3 frames"),
        "apng.png": (saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), "has 3 frames"),
        "cmyk.jpg": (saved(colour.convert("CMYK"), "JPEG"), "is CMYK"),
        "corrupt.png": (bytes(flipped), "broken"),
        "deep_grey.png": (saved(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG"), "more than 8 bits"),
        "deep_rgb.png": (png(8, 8, depth=16, rows=two_bytes), "more than 8 bits"),
        "empty.png": (b"", "empty, 0 bytes"),
        "floats.tif": (saved(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "more than 8 bits"),
        "huge.png": (
            png(20_000, 10_000),
            r"20000 × 10000 are 200 megapixels, the limit is 64|larger than the limit of 64 megapixels",
        ),
        "large.png": (png(10_000, 8_000), "10000 × 8000 are 80 megapixels, the limit is 64"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(40), "no picture in a format that is read"),
        "size.png": (saved(Image.fromarray(pixels(9, 7)), "PNG"), "7 × 9, most are 8 × 8; data.size brings"),
        "text.jpg": (b"hello, this is no picture", "no picture in a format that is read"),
        "transparent.png": (saved(clear, "PNG"), "has transparent pixels"),
        "transparent_palette.gif": (saved(palette, "GIF", transparency=palette.getpixel((0, 0))), "has transparent pixels"),
        "truncated.jpg": (saved(colour, "JPEG", quality=95)[:-150], "broken"),
        "truncated.png": (good[: len(good) // 2], "broken"),
    }


BROKEN = broken_files()


@pytest.mark.parametrize("name", BROKEN)
def test_every_kind_of_broken_picture_is_refused_by_name(folder, name):
    fill(folder)
    (folder / name).write_bytes(BROKEN[name][0])
    with pytest.raises(
        DataError,
        match=rf"data\.path: 1 of 7 pictures in .* cannot be used; convert or remove.*: {name}: .*(?:{BROKEN[name][1]})",
    ):
        read(folder)


def test_all_broken_pictures_are_named_at_once(folder, cache):
    fill(folder, 5)
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes(content)
    (folder / "nowhere.png").symlink_to(folder / "gone")
    with pytest.raises(DataError) as caught:
        read(folder)
    words = str(caught.value)
    assert f"{len(BROKEN) + 1} of {len(BROKEN) + 6} pictures" in words
    assert all(f"{name}: " in words for name in sorted(BROKEN)[:10])
    assert words.endswith(f"and {len(BROKEN) - 9} more")
    assert "\n" not in words
    assert not list(cache.glob("*.npy")) and not list(cache.glob(".*.tmp"))  # nothing half-made is left
    with pytest.raises(DataError, match="nothing at"):
        read(folder / "none")
    (folder.parent / "bare").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        read(folder.parent / "bare")


def test_names_that_cannot_be_printed_stay_on_one_line(folder):
    fill(folder)
    (folder / "a\nb.png").write_bytes(b"")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 8 pictures .*: a\?b\.png: empty, 0 bytes; \?\.png: empty") as caught:
        read(folder)
    assert "\n" not in str(caught.value).encode().decode()


def test_a_picture_is_judged_before_it_is_decoded(folder, monkeypatch):
    fill(folder)
    (folder / "huge.png").write_bytes(BROKEN["large.png"][0])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded") if self.width > 8 else None)
    with pytest.raises(DataError, match="limit is 64"):
        read(folder)


def test_decoded_once_and_mapped_by_all(folder, cache, monkeypatch):
    whole = fill(folder)
    first = read(folder)
    (array,) = cache.glob("*.npy")
    monkeypatch.setattr(gallery_module, "decode", lambda *_: pytest.fail("decoded twice"))
    again = read(folder)
    assert again.info.hash == first.info.hash and again.how == first.how
    assert np.array_equal(stored(again), whole)
    again.raw.stored.zero_()  # copy on write: another process never sees it
    assert np.array_equal(np.load(array), whole)
    with open("/proc/self/maps") as maps:
        assert array.name in maps.read()


@pytest.mark.parametrize("change", ["content", "time", "name", "option", "damage"])
def test_the_cache_follows_what_was_read(folder, cache, change):
    fill(folder)
    first = read(folder)
    before = set(cache.glob("*.npy"))
    keys = {}
    if change == "content":
        Image.fromarray(pixels(8, 8, seed=99)).save(folder / "003.png")
    elif change == "time":
        os.utime(folder / "003.png", ns=(1, 1))
    elif change == "name":
        (folder / "003.png").rename(folder / "9.png")
    elif change == "option":
        keys = {"channels": 1}
    else:
        for path in before:
            path.write_bytes(path.read_bytes()[:-10])
    second = read(folder, **keys)
    assert (second.info.hash == first.info.hash) == (change in ("time", "damage"))
    assert (set(cache.glob("*.npy")) == before) == (change == "damage")


def test_a_cache_that_cannot_be_written_costs_memory_only(folder, cache, monkeypatch, caplog):
    whole = fill(folder)
    (cache / "file").write_text("")
    monkeypatch.setenv("PFGM_CACHE", str(cache / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(stored(read(folder)), whole)
    assert "cannot be written" in caplog.text and "set PFGM_CACHE" in caplog.text


def test_a_disk_that_fills_up_costs_memory_only(folder, cache, monkeypatch, caplog):
    whole = fill(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "fsync", full)
    assert np.array_equal(stored(read(folder)), whole)
    assert "No space left on device" in caplog.text
    assert not [p for p in cache.iterdir() if p.suffix != ".lock"]


def count_decodes(path: str, cache: str, queue) -> None:
    os.environ["PFGM_CACHE"] = cache
    done, decode = [], gallery_module.decode
    gallery_module.decode = lambda *a: (done.append(1), decode(*a))[1]
    queue.put((load_data(DataConfig(name="images", path=path)).info.hash, len(done)))


def test_processes_that_start_together_decode_once(folder, cache):
    fill(folder, 200)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=count_decodes, args=(str(folder), str(cache), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({h for h, _ in found}) == 1
    assert sorted(n for _, n in found) == [0, 200]


def zipped(path, folder, **extra: bytes) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
        for name, content in extra.items():
            archive.writestr(name, content)
    return str(path)


def test_a_zip_is_its_folder(folder, tmp_path):
    fill(folder)
    inside, outside = read(zipped(tmp_path / "p.zip", folder)), read(folder)
    assert inside.info.hash == outside.info.hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.zip", "pictures"]  # nothing was extracted


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_a_zip_that_reaches_outside_is_refused(folder, tmp_path, name):
    fill(folder)
    path = zipped(tmp_path / "p.zip", folder, **{name: b"x"})
    with pytest.raises(DataError, match="a place outside the zip; make the zip anew"):
        read(path)


def test_a_zip_bomb_is_refused_before_it_is_read(folder, tmp_path, monkeypatch):
    fill(folder)
    path = zipped(tmp_path / "p.zip", folder, **{"zero.bmp": bytes(50_000_000)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match=r"expands \d+ times, to 50 MB; the limit is 100 times"):
        read(path)
    monkeypatch.setattr("pfgm.data.readers.images.MAX_MEMBER", 1_000_000)
    with pytest.raises(DataError, match=r"zero\.bmp in .* has 50 MB, the limit for a picture is 1 MB"):
        read(path)


def test_broken_zips_are_refused(folder, tmp_path):
    fill(folder)
    path = tmp_path / "p.zip"
    content = bytearray((zipped(path, folder), path.read_bytes())[1])
    content[60] ^= 255  # within the first member
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 6 pictures .* 000\.png: cannot be read from the zip"):
        read(path)
    path.write_bytes(content[:-30])
    with pytest.raises(DataError, match="neither a folder nor a readable zip"):
        read(path)


def test_pictures_without_a_path_are_asked_for():
    with pytest.raises(DataError, match="need a folder or a zip"):
        load_data(DataConfig(name="images"))
