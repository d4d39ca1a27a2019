"""A folder of DICOM files with a table of labels."""

import csv
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.folder import SPLIT_FOLDERS
from qhybrid.data.images import nearest_path, read_images
from qhybrid.data.partition import stratified
from qhybrid.data.spec import SPLITS
from qhybrid.errors import InputError, did_you_mean

Row = tuple[str, str, str | None]  # file, label, split


def load_dicom(
    root: Path,
    *,
    name: str,
    image_size: int,
    csv_name: str,
    frame: int | None,
    fractions: tuple[float, float, float],
    split_seed: int,
    unreadable: list[str] | None = None,
) -> ImageDataset:
    """Load DICOM files listed in a CSV of `file,label[,split]`.

    Args:
        root: The folder.
        name: The source as the user wrote it.
        image_size: Height and width in pixels of what the splits give.
        csv_name: The table, relative to `root`.
        frame: Frame of multi-frame files, from 0; None: the middle one.
        fractions: Shares of train, validation and test where the table has no `split` column.
        split_seed: Seed of that split.
        unreadable: None raises for a file that cannot be read; a list collects them instead.

    Returns:
        The data set, float32 (uint8 for colour); an image's id is its `file`.

    Raises:
        InputError: The folder, the table, a column or a file is missing or damaged, or pydicom is not installed.
    """
    if not root.is_dir():
        raise InputError(f"data source {name!r}: folder does not exist; {nearest_path(root)}")
    _pydicom()
    rows = _rows(root / csv_name)
    class_names = tuple(sorted({label for _, label, _ in rows}, key=_natural))
    labels = [class_names.index(label) for _, label, _ in rows]
    if rows[0][2] is None:
        parts = stratified(labels, fractions, seed=split_seed, where=f"data source {name!r}")
    else:
        parts = {s: [i for i, (_, _, own) in enumerate(rows) if own == s] for s in SPLITS}
    splits = {}
    for split, indices in parts.items():
        images, kept = read_images(
            [root / rows[index][0] for index in indices],
            partial(read_dicom, frame=frame),
            image_size=image_size,
            unreadable=unreadable,
        )
        chosen = [indices[position] for position in kept]
        split_labels = torch.tensor([labels[index] for index in chosen], dtype=torch.int64)
        splits[split] = Split(images, split_labels, tuple(rows[index][0] for index in chosen), image_size)
    return ImageDataset(name, class_names, splits)


def read_dicom(path: Path, *, frame: int | None = None) -> Tensor:
    """Read one frame of a DICOM file as it is meant to be seen.

    Applied in this order: rescale slope and intercept, VOI window (linear, exact linear or sigmoid) or VOI table,
    inversion of MONOCHROME1. Without window or table the range of the frame's own values is shown.

    Args:
        path: The file.
        frame: Which frame, from 0; None: the middle one.

    Returns:
        (1, h, w) float32 in [0, 1], or (3, h, w) uint8 for colour.

    Raises:
        InputError: The file is missing or damaged, has no pixels or no such frame, or needs a decoder.

    Source: DICOM PS3.3 C.11.2 (VOI LUT module) and C.7.6.3.1.2 (photometric interpretation).
    """
    pydicom = _pydicom()
    if not path.is_file():
        raise InputError(f"DICOM file {str(path)!r} does not exist; {nearest_path(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns about padding and odd values that do no harm
            header = pydicom.dcmread(path)
            n_frames = int(header.get("NumberOfFrames", 1) or 1)
            index = n_frames // 2 if frame is None else frame
            if index >= n_frames:
                raise InputError(f"{path}: has no frame {index}; allowed: 0 to {n_frames - 1}")
            pixels = np.asarray(pydicom.pixels.pixel_array(header, index=index))
            if pixels.ndim == 3:
                return torch.from_numpy(_eight_bits(pixels, header)).permute(2, 0, 1)
            shown = _window(_rescaled(pixels, header, index), header, index)
    except InputError:
        raise
    except Exception as error:  # pydicom raises nearly any exception on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a readable DICOM image ({reason})") from None
    if header.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return torch.from_numpy(shown.astype(np.float32))[None]


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise InputError("reading DICOM needs pydicom: pip install 'qhybrid[dicom]'") from None
    return pydicom


def _attribute(header: Any, name: str, group: str, index: int) -> Any:
    """A value of the header, or of the functional groups where enhanced multi-frame files keep it."""
    if header.get(name) is not None:
        return header.get(name)
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*per_frame[index : index + 1], *(header.get("SharedFunctionalGroupsSequence") or [])]
    for candidate in groups:
        for item in candidate.get(group) or []:
            if item.get(name) is not None:
                return item.get(name)
    return None


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _rescaled(pixels: NDArray[Any], header: Any, index: int) -> NDArray[np.float64]:
    if header.get("ModalityLUTSequence"):
        return _through_table(pixels, header.ModalityLUTSequence[0])[0]
    slope = _first(_attribute(header, "RescaleSlope", "PixelValueTransformationSequence", index))
    intercept = _first(_attribute(header, "RescaleIntercept", "PixelValueTransformationSequence", index))
    return pixels * (1.0 if slope is None else slope) + (intercept or 0.0)


def _window(values: NDArray[np.float64], header: Any, index: int) -> NDArray[np.float64]:
    center = _first(_attribute(header, "WindowCenter", "FrameVOILUTSequence", index))
    width = _first(_attribute(header, "WindowWidth", "FrameVOILUTSequence", index))
    if center is None or width is None:
        if header.get("VOILUTSequence"):
            shown, highest = _through_table(values, header.VOILUTSequence[0])
            return np.clip(shown / highest, 0, 1)
        low, high = values.min(), values.max()
        return (values - low) / (high - low) if high > low else np.zeros_like(values)
    function = _attribute(header, "VOILUTFunction", "FrameVOILUTSequence", index) or "LINEAR"
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function == "LINEAR":  # half a grey value apart from LINEAR_EXACT, by the standard
        center, width = center - 0.5, width - 1
    if width <= 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _through_table(values: NDArray[Any], table: Any) -> tuple[NDArray[np.float64], int]:
    """Values looked up in a LUT, and the highest value that the LUT can give.

    Not left to pydicom 3.0, whose indices are as short as the entries: 4096 entries of 8 bits wrap round.
    """
    n_entries, first, bits = (int(number) for number in table.LUTDescriptor)
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="<u2" if len(data) >= 2 * (n_entries or 65536) else np.uint8)
    entries = np.asarray(data, dtype=np.float64)
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, (n_entries or 65536) - 1)
    return entries[index], 2**bits - 1


def _eight_bits(pixels: NDArray[Any], header: Any) -> NDArray[np.uint8]:
    return (pixels >> max(0, int(header.BitsStored) - 8)).astype(np.uint8)


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise InputError(f"label table {str(path)!r} does not exist; {nearest_path(path)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = reader.fieldnames or []
            for column in ("file", "label"):
                if column not in header:
                    raise InputError(f"{path}: column {column!r} is missing; {did_you_mean(column, header)}")
            return _checked(list(reader), path, has_splits="split" in header)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None


def _checked(records: list[dict[str, str | None]], path: Path, *, has_splits: bool) -> list[Row]:
    rows: list[Row] = []
    for line, record in enumerate(records, start=2):
        file, label = (record["file"] or "").strip(), (record["label"] or "").strip()
        if not file or not label:
            raise InputError(f"{path}: line {line} has no {'label' if file else 'file'}")
        split = None
        if has_splits:
            given = (record["split"] or "").strip()
            split = SPLIT_FOLDERS.get(given.lower())
            if split is None:
                raise InputError(f"{path}: line {line} has split {given!r}; {did_you_mean(given, SPLITS)}")
        rows.append((file, label, split))
    if not rows:
        raise InputError(f"{path}: has no rows")
    return rows


def _natural(label: str) -> tuple[int, int, str]:
    """Numbers by value and before words, so that class 10 comes after class 2."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)
