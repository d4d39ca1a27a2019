"""DICOM folders: what a viewer would show, and what is refused in one line."""

import sys

import numpy as np
import pytest
import torch

from qhybrid.data.dicom import read_dicom
from qhybrid.data.sources import load_dataset
from qhybrid.data.spec import DataSpec
from qhybrid.errors import InputError

pydicom = pytest.importorskip("pydicom")

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0..4095, all of 12 bits


def write_dicom(path, pixels=RAMP, **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = pydicom.uid.XRayAngiographicImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
    colour = pixels.shape[-1] == 3
    grid = pixels.shape[:-1] if colour else pixels.shape
    file.Rows, file.Columns = grid[-2:]
    if len(grid) == 3:
        file.NumberOfFrames = grid[0]
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    file.BitsAllocated = 8 * pixels.itemsize
    file.BitsStored = 8 if pixels.itemsize == 1 else 12
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = 0
    file.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


def test_without_a_window_the_own_range_is_shown(tmp_path):
    image = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP // 2 + 100))
    assert image.shape == (1, 64, 64)
    assert image.dtype == torch.float32
    assert image.min() == 0
    assert image.max() == 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", lambda x: np.clip((x - 999.5) / 499 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 1000) / 500 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 1000) / 500))),
    ],
)
def test_window_is_honoured(tmp_path, function, expected):
    path = write_dicom(tmp_path / "a.dcm", WindowCenter=1000, WindowWidth=500, VOILUTFunction=function)
    np.testing.assert_allclose(read_dicom(path)[0].numpy(), expected(RAMP.astype(float)), atol=1e-6)


def test_window_agrees_with_pydicom(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", WindowCenter=[1500, 40], WindowWidth=[800, 400])
    header = pydicom.dcmread(path)
    theirs = pydicom.pixels.apply_voi_lut(header.pixel_array, header) / 4095
    np.testing.assert_allclose(read_dicom(path)[0].numpy(), theirs, atol=1e-6)


def test_rescale_comes_before_the_window(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT")
    rescaled = write_dicom(
        tmp_path / "b.dcm",
        RescaleSlope=2,
        RescaleIntercept=-1024,
        WindowCenter=2 * 1000 - 1024,
        WindowWidth=2 * 500,
        VOILUTFunction="LINEAR_EXACT",
    )
    torch.testing.assert_close(read_dicom(rescaled), read_dicom(plain))


def test_monochrome1_is_inverted(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", WindowCenter=1000, WindowWidth=500)
    inverted = write_dicom(
        tmp_path / "b.dcm", WindowCenter=1000, WindowWidth=500, PhotometricInterpretation="MONOCHROME1"
    )
    torch.testing.assert_close(read_dicom(inverted), 1 - read_dicom(plain))


def test_voi_table_is_honoured(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.add_new("LUTData", "OW", (np.arange(4096) // 16)[::-1].astype(np.uint16).tobytes())
    image = read_dicom(write_dicom(tmp_path / "a.dcm", VOILUTSequence=[table]))
    np.testing.assert_allclose(image[0].numpy(), ((4095 - RAMP) // 16) / 255, atol=1e-6)


def test_middle_or_chosen_frame(tmp_path):
    frames = np.stack([np.full((8, 8), value, dtype=np.uint8) for value in (10, 20, 30, 40, 50)])
    path = write_dicom(tmp_path / "a.dcm", frames, WindowCenter=30, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    assert read_dicom(path)[0, 0, 0] == pytest.approx(0.5)
    assert read_dicom(path, frame=0)[0, 0, 0] == pytest.approx(0.3)
    with pytest.raises(InputError, match="has no frame 5; allowed: 0 to 4"):
        read_dicom(path, frame=5)


def test_window_of_an_enhanced_file_stands_in_its_functional_groups(tmp_path):
    frames = np.stack([np.full((8, 8), value, dtype=np.uint8) for value in (10, 20, 30)])
    groups = []
    for centre in (10, 45, 30):
        window, group = pydicom.Dataset(), pydicom.Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 100, "LINEAR_EXACT"
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    path = write_dicom(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=groups)
    assert read_dicom(path, frame=1)[0, 0, 0] == pytest.approx(0.25)


def test_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", pixels))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def folder(root, *, split=False, labels=("benign", "malignant"), n=4):
    lines = ["file,label,split" if split else "file,label"]
    for label in labels:
        for index in range(n):
            name = f"images/{label}{index}.dcm"
            write_dicom(root / name, np.roll(RAMP, 100 * len(lines)))
            where = ("train", "train", "val", "test")[index % 4]
            lines.append(f"{name},{label}" + (f",{where}" if split else ""))
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return root


def load(root, **settings):
    return load_dataset(DataSpec(source=f"dicom:{root}", image_size=32, **settings))


def message_of(root, **settings):
    with pytest.raises(InputError) as caught:
        load(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_with_split_column(tmp_path):
    dataset = load(folder(tmp_path, split=True))
    assert dataset.class_names == ("benign", "malignant")
    assert dataset.splits["validation"].ids == ("images/benign2.dcm", "images/malignant2.dcm")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 1, 1]
    assert dataset.splits["train"].images.dtype == torch.float32
    assert dataset.splits["train"][0][0].shape == (3, 32, 32)


def test_folder_without_split_column_is_stratified(tmp_path):
    dataset = load(folder(tmp_path, n=5), fractions=(0.6, 0.2, 0.2))
    assert dataset.class_counts()["train"] == {"benign": 3, "malignant": 3}
    assert dataset.class_counts()["test"] == {"benign": 1, "malignant": 1}


def test_numbered_labels_are_in_order_of_value(tmp_path):
    assert load(folder(tmp_path, labels=("10", "9"), n=3)).class_names == ("9", "10")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_truncated_file_is_named_or_collected(tmp_path, share):
    root = folder(tmp_path, split=True)
    broken = root / "images" / "benign1.dcm"
    content = broken.read_bytes()
    broken.write_bytes(content[: int(share * len(content))])
    assert f"{broken}: not a readable DICOM image" in message_of(root)
    unreadable: list[str] = []
    dataset = load_dataset(DataSpec(source=f"dicom:{root}", image_size=32), unreadable=unreadable)
    assert len(unreadable) == 1
    assert len(dataset.splits["train"]) == 3


def test_missing_folder_table_and_file(tmp_path):
    root = folder(tmp_path / "angio", split=True)
    assert "did you mean 'angio'" in message_of(tmp_path / "angoi")
    (root / "images" / "benign0.dcm").unlink()
    assert "benign0.dcm' does not exist" in message_of(root)
    (root / "labels.csv").rename(root / "label.csv")
    assert "did you mean 'label.csv'" in message_of(root)
    assert "benign0.dcm" in message_of(root, dicom={"csv": "label.csv"})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("files,label\na.dcm,0\n", "column 'file' is missing; did you mean 'files'"),
        ("file,label\n", "has no rows"),
        ("file,label\na.dcm,\n", "line 2 has no label"),
        ("file,label,split\na.dcm,0,trian\n", "line 2 has split 'trian'; did you mean 'train'"),
        ("file,label\na.dcm,0\nb.dcm,1\n", "too few"),
    ],
)
def test_wrong_table(tmp_path, table, words):
    (tmp_path / "labels.csv").write_text(table)
    assert words in message_of(tmp_path)


def test_file_without_pixels(tmp_path):
    path = write_dicom(tmp_path / "a.dcm")
    header = pydicom.dcmread(path)
    del header.PixelData
    header.save_as(path)
    with pytest.raises(InputError, match=r"a\.dcm: not a readable DICOM image"):
        read_dicom(path)


def test_missing_pydicom_says_how_to_install_it(tmp_path, monkeypatch):
    root = folder(tmp_path, split=True)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'qhybrid[dicom]'" in message_of(root)
