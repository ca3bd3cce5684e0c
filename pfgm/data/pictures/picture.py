"""One picture → bytes (C, H, W), or a reason why not.

Changes that lose nothing are made. A palette becomes RGB. An alpha channel that is opaque everywhere is dropped. A photo is
turned as its camera says. Grey is repeated where three channels are asked for. Changes that need a guess are refused:
transparent pixels (over which background?), CMYK (which inks?), more than 8 bits (which range?), several frames (which one?).
The size is read from the header and judged before anything is decoded."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Formats that are read: pictures, and nothing that is a program, such as EPS."""
MAX_PIXELS = 64_000_000
"""Largest picture, in pixels; a small file can claim any size."""
ORIENTATION = 0x0112  # the EXIF tag
TURNED = (2, 3, 4, 5, 6, 7, 8)  # its values that turn or mirror
SIDEWAYS = (5, 6, 7, 8)  # those that swap width and height


class BadPicture(ValueError):
    """A picture that cannot be used; the message is the reason."""


class Wanted(NamedTuple):
    """The form that pictures get: side in pixels (None: as they are), cut to a square first or not, 1 or 3 channels."""

    size: int | None
    crop: bool
    channels: int


class Look(NamedTuple):
    """The facts of a picture's header: size as seen, whether grey, whether turned, and what reading will change."""

    width: int
    height: int
    grey: bool
    turned: bool
    changes: tuple[str, ...]


def look(handle: BinaryIO) -> Look:
    """Judge a picture by its header.

    Raises:
        BadPicture: it is none, or one that is refused.
    """
    with _opened(handle) as image:
        return _look(image)


def decode(handle: BinaryIO, wanted: Wanted) -> np.ndarray:
    """Pixels (C, H, W), uint8.

    Raises:
        BadPicture: it is broken, or one that is refused.
    """
    with _opened(handle) as image:
        seen = _look(image)
        try:
            image.load()
            picture = _plain(ImageOps.exif_transpose(image) if seen.turned else image, seen.grey)
        except BadPicture:
            raise
        except MemoryError:
            raise
        except Exception as error:  # decoders meet broken content with errors of every kind
            raise BadPicture(f"broken: {_words(error)}") from error
        picture = picture.convert("L" if wanted.channels == 1 else "RGB")
        pixels = np.asarray(_fitted(picture, wanted), np.uint8)
    return pixels[None] if wanted.channels == 1 else pixels.transpose(2, 0, 1)


def fitted_size(seen: Look, size: int | None, crop: bool) -> tuple[int, int]:
    """(height, width) that a picture will have.

    Raises:
        BadPicture: it is not square and must be made so without a crop.
    """
    if size is not None:
        if not crop and seen.width != seen.height:
            raise BadPicture(f"{seen.width} × {seen.height} is not square; data.crop: center cuts it")
        return size, size
    side = min(seen.width, seen.height)
    return (side, side) if crop else (seen.height, seen.width)


def _opened(handle: BinaryIO) -> Image.Image:
    try:
        return Image.open(handle, formats=FORMATS)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise BadPicture(f"larger than the limit of {MAX_PIXELS / 1e6:g} megapixels ({_words(error)})") from error
    except UnidentifiedImageError as error:
        if not handle.seek(0, 2):
            raise BadPicture("empty, 0 bytes") from error
        raise BadPicture(f"no picture in a format that is read ({', '.join(FORMATS)}), or broken from the start") from error
    except Exception as error:  # headers can be broken in as many ways as pixels
        raise BadPicture(f"broken: {_words(error)}") from error


def _look(image: Image.Image) -> Look:
    width, height = image.size
    if width * height > MAX_PIXELS:
        megapixels = f"{width * height / 1e6:.0f} megapixels"
        raise BadPicture(f"{width} × {height} are {megapixels}, the limit is {MAX_PIXELS / 1e6:g}")
    try:
        frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # an MPO is a photo with its preview
        orientation = _orientation(image)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise BadPicture(f"broken: {_words(error)}") from error
    if frames > 1:
        raise BadPicture(f"has {frames} frames")
    if _deep(image):
        raise BadPicture("has more than 8 bits a channel")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise BadPicture(f"is {image.mode}, not grey or RGB")
    changes = [
        words
        for words, true in (
            ("palette made RGB", image.mode in ("P", "PA")),
            ("opaque alpha dropped", image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info),
            ("turned as the camera says", orientation in TURNED),
        )
        if true
    ]
    if orientation in SIDEWAYS:
        width, height = height, width
    return Look(width, height, image.mode in ("1", "L", "LA"), orientation in TURNED, tuple(changes))


def _orientation(image: Image.Image) -> int:
    """The camera's, by EXIF. In a PNG it counts only where it comes first: looking for it would decode the picture."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(ORIENTATION, 1))


def _deep(image: Image.Image) -> bool:
    """More than 8 bits a channel: modes of integers and floats, and 16-bit RGB, which Pillow would cut to 8 silently."""
    if image.mode.startswith(("I", "F")):
        return True
    arguments = [getattr(tile, "args", tile[3]) for tile in getattr(image, "tile", [])]
    flat = [a for args in arguments for a in (args if isinstance(args, tuple) else (args,))]
    sixteen = any(isinstance(a, str) and ";16" in a for a in flat)
    return sixteen or (image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in flat))


def _plain(image: Image.Image, grey: bool) -> Image.Image:
    """Grey or RGB, without the alpha channel of an opaque picture."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise BadPicture("has transparent pixels")
    return image.convert("L" if grey else "RGB")


def _fitted(image: Image.Image, wanted: Wanted) -> Image.Image:
    """Cut to the centre square, then resized by Lanczos' filter, which averages what it shrinks."""
    if wanted.crop:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if wanted.size is None or image.size == (wanted.size, wanted.size):
        return image
    return image.resize((wanted.size, wanted.size), Image.Resampling.LANCZOS)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
