"""One image file as a tensor, and many of them as one."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qhybrid.data.dataset import resize
from qhybrid.errors import InputError, did_you_mean

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def nearest_path(path: Path) -> str:
    """Say what stands where a missing path should have been: the first missing part and its nearest match."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    folder = missing.parent
    names = sorted(entry.name for entry in folder.iterdir())[:40] if folder.is_dir() else []
    return f"in {str(folder)!r}: {did_you_mean(missing.name, names)}"


def read_image(path: Path) -> Tensor:
    """Read a PNG, JPEG, BMP, TIFF or WebP file.

    Args:
        path: The file. Of several frames the first is read; the orientation tag is honoured.

    Returns:
        (1, h, w) grey or (3, h, w) colour: uint8, or float32 in [0, 1] for 16-bit files. Transparency is dropped.

    Raises:
        InputError: The file is missing, truncated or no image; names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits; Pillow gives 32-bit integers for some of them
                return torch.from_numpy(np.asarray(image).astype(np.float32) / 65535).clamp(0, 1)[None]
            if image.mode == "F":
                raise InputError(f"{path}: floating-point pixels have no known range; save as 8 or 16 bits")
            if image.mode == "P":
                image = image.convert("RGBA").convert("RGB")
            grey = image.mode in ("1", "L", "LA")
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except FileNotFoundError:
        raise InputError(f"image file {str(path)!r} does not exist; {nearest_path(path)}") from None
    except InputError:
        raise
    # Pillow's decoders raise all of these on damaged files.
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as e:
        raise InputError(f"{path}: not a readable image ({_one_line(e)})") from None
    return torch.from_numpy(pixels)[None] if grey else torch.from_numpy(pixels).permute(2, 0, 1)


def read_images(
    paths: Sequence[Path],
    read: Callable[[Path], Tensor],
    *,
    image_size: int,
    unreadable: list[str] | None,
) -> tuple[Tensor, list[int]]:
    """Read files into one tensor.

    Images keep their pixels where all are of one size and none is larger than `image_size`; otherwise they are
    resized to `image_size` here, so that a folder of large files does not fill the memory.

    Args:
        paths: The files.
        read: Reads one, (C, h, w); raises InputError where it cannot.
        image_size: Height and width in pixels.
        unreadable: None raises for a file that cannot be read; a list collects what is wrong and leaves it out.

    Returns:
        (N, C, h, w) uint8, or float32 in [0, 1] where any file has more than 8 bits; C is 3 where any is
        colour. And the indices of the files that were read.
    """
    images: list[Tensor] = []
    kept: list[int] = []
    for index, path in enumerate(paths):
        try:
            image = read(path)
        except InputError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            continue
        if max(image.shape[-2:]) > image_size:
            image = _resized(image, image_size)
        images.append(image)
        kept.append(index)
    return _stacked(images, image_size), kept


def _stacked(images: list[Tensor], image_size: int) -> Tensor:
    if not images:
        return torch.zeros((0, 1, image_size, image_size), dtype=torch.uint8)
    if len({image.shape[-2:] for image in images}) > 1:
        images = [_resized(image, image_size) for image in images]
    channels = max(len(image) for image in images)
    if any(image.dtype != torch.uint8 for image in images):
        images = [image.float() / 255 if image.dtype == torch.uint8 else image for image in images]
    return torch.stack([image.expand(channels, -1, -1) for image in images])


def _resized(image: Tensor, size: int) -> Tensor:
    resized = resize(image[None].float(), size)[0]
    return resized.round().clamp(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else resized.clamp(0, 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
