"""Enhanced multi-frame CT, read frame by frame as the slices that they are."""

import tracemalloc

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_files import enhanced_dataset, write_enhanced, write_hu
from known_volume import ORIGIN, SHAPE, SPACING, assert_is_truth, read
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from pe_unified.ct.dicom import read_hu
from pe_unified.ct.headers import read_headers
from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError

#: In the file the frames lie in this order of their heights.
SHUFFLED = [3, 0, 5, 1, 4, 2]
SHARED = {"PixelSpacing": list(SPACING[:2]), "SliceThickness": 2.5}


def place(k):
    return [ORIGIN[0], ORIGIN[1], ORIGIN[2] + SPACING[2] * k]


def frames_of(order):
    return [{"ImagePositionPatient": place(k)} for k in order]


def known_dataset(truth, order=SHUFFLED, **options):
    stored = (truth[list(order)].astype(np.int32) + 1024).astype(np.uint16)
    return enhanced_dataset(stored, frames_of(order), shared=SHARED, **options)


def save(dataset, path, syntax=None):
    if syntax in (RLELossless, JPEGLSLossless):
        dataset.compress(syntax)
    elif syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
        dataset["PixelData"].VR = "OW"
    dataset.save_as(
        path,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return path


@pytest.mark.parametrize(
    "syntax",
    [
        None,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
    ],
)
def test_frames_in_any_order_and_packing(tmp_path, truth, affine, syntax):
    path = save(known_dataset(truth), tmp_path / "enhanced", syntax)
    assert_is_truth(path, truth, affine)
    (tmp_path / "notes.txt").write_text("one file beside it")
    assert_is_truth(tmp_path, truth, affine)
    with open_study(path) as study:
        assert study.frames == tuple(SHUFFLED.index(k) + 1 for k in range(6))
        assert study.files == (path,) * 6 and len(set(study.sop_uids)) == 1
        assert study.thickness_mm == 2.5 and study.placed and not study.contradictions


def test_offsets_of_frames_in_a_table_of_their_own_or_nowhere(tmp_path, truth, affine):
    dataset = known_dataset(truth)
    dataset.compress(RLELossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=6))
    packed = pydicom.encaps.encapsulate_extended(frames)
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = packed
    assert_is_truth(save(dataset, tmp_path / "a.dcm"), truth, affine)
    del dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    dataset.PixelData = pydicom.encaps.encapsulate(frames, has_bot=False)
    assert_is_truth(save(dataset, tmp_path / "none.dcm"), truth, affine)


def test_legacy_converted_as_highdicom_writes_it(tmp_path, truth, affine):
    for k in SHUFFLED:
        elements = {"ImagePositionPatient": place(k), "PixelSpacing": list(SPACING[:2])}
        unused = dict.fromkeys(
            ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
            "",
        )
        unused |= dict.fromkeys(("AccessionNumber", "ReferringPhysicianName"), "")
        write_hu(
            tmp_path / "in" / f"{k}",
            truth[k],
            number=k + 1,
            **elements,
            **unused,
            FrameOfReferenceUID="1.2.3",
            Manufacturer="x",
            SliceThickness=2.0,
        )
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(tmp_path / "in" / f"{k}") for k in SHUFFLED],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
    )
    converted.save_as(tmp_path / "legacy.dcm")
    assert_is_truth(tmp_path / "legacy.dcm", truth, affine)


def test_every_frame_has_its_own_rescale(tmp_path, truth):
    frames = frames_of(range(6))
    stored = np.empty(truth.shape, np.uint16)
    for k, frame in enumerate(frames):
        frame["RescaleSlope"], frame["RescaleIntercept"] = 1, -1024 - 100 * k
        stored[k] = truth[k].astype(np.int32) + 1024 + 100 * k
    enhanced_dataset(stored, frames).save_as(tmp_path / "a", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a")[1], truth)


def two_scans(first, second, heights=(0, 0)):
    """Six frames of each, told apart by elements, interleaved."""
    frames = []
    for k in range(6):
        for elements, height in ((first, heights[0]), (second, heights[1])):
            frames.append({"ImagePositionPatient": place(k + height), **elements})
    return frames


@pytest.mark.parametrize(
    ("first", "second", "dimensions"),
    [
        ({"TemporalPositionIndex": 1}, {"TemporalPositionIndex": 2}, ()),
        ({"StackID": "1"}, {"StackID": "2"}, ()),
        ({"FrameAcquisitionNumber": 3}, {"FrameAcquisitionNumber": 5}, ()),
        (
            {"DimensionIndexValues": [1, 1]},
            {"DimensionIndexValues": [1, 2]},
            ("InStackPositionNumber", "NominalPercentageOfCardiacPhase"),
        ),
    ],
)
def test_phases_and_stacks_of_one_file_are_not_mixed(
    tmp_path, truth, affine, first, second, dimensions
):
    """Two scans over the same heights, the second of them darker."""
    both = np.stack([truth, truth - 20], axis=1).reshape(12, *SHAPE[1:])
    frames = two_scans(first, second)
    path = write_enhanced(
        tmp_path / "a", both.clip(-1024), frames, shared=SHARED, dimensions=dimensions
    )
    study, hu = read(path)
    assert len(study) == 6 and not study.contradictions
    offsets = {int(np.median(level - kept)) for level, kept in zip(truth, hu, strict=True)}
    assert offsets in ({0}, {20})
    assert any("left out 6 slices" in note for note in study.notes)


def test_stacks_that_go_on_where_others_end_are_one_scan(tmp_path, truth, affine):
    frames = frames_of(range(6))
    for k, frame in enumerate(frames):
        frame["StackID"] = "1" if k < 3 else "2"
    assert_is_truth(write_enhanced(tmp_path / "a", truth, frames, shared=SHARED), truth, affine)


def test_contrast_and_kind_are_read_from_the_groups(tmp_path, truth):
    frames = frames_of(range(6))
    frames[0]["ContrastBolusAgentAdministered"] = "NO"
    frames[1]["FrameType"] = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    path = write_enhanced(tmp_path / "a", truth, frames)
    dataset = pydicom.dcmread(path)
    agent = pydicom.Dataset()
    agent.CodeMeaning = "Iodinated contrast agent"
    dataset.ContrastBolusAgentSequence = [agent]
    dataset.save_as(path)
    headers = read_headers(path)
    assert [header.contrast for header in headers[:2]] == ["NONE", "Iodinated contrast agent"]
    assert len(read(path)[0]) == 5  # without the scout


def test_a_map_of_iodine_is_no_ct(tmp_path, truth):
    dataset = known_dataset(truth)
    code, mapping = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue = "mg/mL"
    mapping.MeasurementUnitsCodeSequence = [code]
    dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping]
    assert {header.unit for header in read_headers(save(dataset, tmp_path / "a"))} == {"mg/mL"}
    with pytest.raises(DataError, match="image in mg/mL, not in Hounsfield units"):
        read(tmp_path / "a")


@pytest.mark.parametrize(
    ("administered", "contrast"), [(("NO", "YES"), "Iohexol"), (("NO", "NO"), "NONE")]
)
def test_contrast_is_denied_where_no_agent_was_given(tmp_path, truth, administered, contrast):
    """Oral, then intravenous."""
    dataset = known_dataset(truth, ContrastBolusAgent="Iohexol")
    usage = [pydicom.Dataset() for _ in administered]
    for item, said in zip(usage, administered, strict=True):
        item.ContrastBolusAgentAdministered = said
    dataset.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence = usage
    headers = read_headers(save(dataset, tmp_path / "a"))
    assert {header.contrast for header in headers} == {contrast}


def test_memory_does_not_grow_with_the_frames(tmp_path):
    count, rows, cols = 120, 256, 256
    frames = [{"ImagePositionPatient": [0, 0, float(k)]} for k in range(count)]
    path = write_enhanced(tmp_path / "a", np.zeros((count, rows, cols), np.int16), frames)
    assert path.stat().st_size > 15 << 20
    tracemalloc.start()
    with open_study(path) as study:
        for index in range(len(study)):
            study.slice_hu(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_a_file_cut_short_names_the_frame_that_is_lost(tmp_path, truth, syntax):
    path = save(known_dataset(truth, range(6)), tmp_path / "cut.dcm", syntax)
    path.write_bytes(path.read_bytes()[:-200])
    headers = read_headers(path)
    read_hu(path, headers[0].frame)
    with pytest.raises(DataError, match=r"cut\.dcm: the pixels cannot be decoded"):
        read_hu(path, headers[5].frame)


def test_deflated_frames_are_refused(tmp_path, truth):
    path = save(known_dataset(truth), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    with pytest.raises(DataError, match=r"a\.dcm: deflated as a whole; .*; export it uncompressed"):
        read(path)


def test_other_multi_frame_objects_are_still_no_ct(tmp_path, truth):
    dataset = known_dataset(truth)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="multi-frame image of 6 frames"):
        read(tmp_path / "a.dcm")
