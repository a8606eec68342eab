"""A hospital's folder: small studies, and masks of every kind on them."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import highdicom as hd
import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_files import write_hu
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from raw_sets import all_images, painted
from skimage.measure import find_contours

from pe_unified.ct.opening import open_slices
from pe_unified.ct.study import CTStudy

#: Studies of the hospital with a mask, and its format; and those without.
MASKED = {"A1": ".nii.gz", "A2": ".seg.nrrd", "A3": ".mha", "A4": "_seg", "A5": "_rs"}
NAMES = (*MASKED, "B1", "B2")
EMPTY = np.zeros((8, 48, 48), np.uint8)
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def uid_of(name: str) -> str:
    """StudyInstanceUID of a study."""
    return f"1.2.3.{crc32(name.encode())}"


def write_study(
    folder: Path,
    name: str,
    mask: np.ndarray | None = None,
    size: int = 48,
    count: int = 8,
    **elements,
) -> tuple[CTStudy, np.ndarray]:
    """DICOM slices of a patient, named against their order; and the mask (slices, rows, cols).

    Emboli lie at the lower slices, right of the middle and in front, so that no mirror image fits.
    """
    uid = uid_of(name)
    rng = np.random.default_rng(crc32(name.encode()))
    if mask is None:
        mask = np.zeros((count, size, size), np.uint8)
        for index in (1, 2, 3):
            top, left = rng.integers(4, size // 2 - 9, 2)
            mask[index, top : top + 7, left : left + 8] = 1
            mask[index, top : top + 2, left : left + 2] = 0
    hu = painted(np.moveaxis(mask, 0, 2), rng)
    unsaid = ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber")
    for index in range(len(mask)):
        values = {
            **dict.fromkeys((*unsaid, "StudyDate", "StudyTime", "ReferringPhysicianName"), ""),
            "SeriesNumber": 1,
            "SliceThickness": 2.5,
            "PositionReferenceIndicator": "",
            "FrameOfReferenceUID": f"{uid}.9",
            "PatientID": f"P-{name}",
            "InstanceNumber": len(mask) - index,
            "StudyInstanceUID": uid,
            "SeriesInstanceUID": f"{uid}.1",
            "SOPInstanceUID": f"{uid}.1.{index + 1}",
            "PixelSpacing": [0.8, 0.7],
        }
        write_hu(
            folder / f"IM{len(mask) - index:03d}", hu[index], 2.5 * index, **(values | elements)
        )
    return open_slices(sorted(folder.iterdir()), folder), mask


def save_nifti(path: Path, values: np.ndarray, study: CTStudy, ras: bool = False) -> Path:
    """Values (slices, rows, cols) in the grid of a study; ``ras``: stored right to left, back to
    front, as dcm2niix does with rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T), _RAS @ study.affine_lps())
    nibabel.save(nibabel.as_closest_canonical(image) if ras else image, path)
    return path


def save_metaimage(path: Path, values: np.ndarray, study: CTStudy) -> Path:
    """The same as ITK writes it, in whatever format the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    row, col, step = study.known_spacing()
    image.SetSpacing((col, row, step))
    image.SetOrigin(study.origin_mm)
    image.SetDirection(study.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def save_slicer(path: Path, segments: Mapping[str, np.ndarray], study: CTStudy) -> Path:
    """As 3D Slicer does it: cut to what is drawn, and in layers where segments overlap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.stack([values > 0 for values in segments.values()])
    ends = [np.flatnonzero(whole.any(axis=tuple(set(range(4)) - {axis}))) for axis in (1, 2, 3)]
    (k0, k1), (r0, r1), (c0, c1) = ((int(each[0]), int(each[-1]) + 1) for each in ends)
    cut = whole[:, k0:k1, r0:r1, c0:c1]
    overlap = (cut.sum(axis=0) > 1).any()
    affine = study.affine_lps()
    directions = affine[:3, :3].T
    header = {
        "space": "left-posterior-superior",
        "space origin": affine[:3, 3] + affine[:3, :3] @ [c0, r0, k0],
        "kinds": ["domain"] * 3,
    }
    for number, name in enumerate(segments):
        header[f"Segment{number}_Name"] = name
        header[f"Segment{number}_LabelValue"] = "1" if overlap else str(number + 1)
        header[f"Segment{number}_Layer"] = str(number) if overlap else "0"
    if overlap:
        data = cut.astype(np.uint8).transpose(0, 3, 2, 1)
        header["kinds"] = ["list", *header["kinds"]]
        header["space directions"] = np.vstack([np.full(3, np.nan), directions])
    else:
        numbers = np.arange(1, len(cut) + 1)[:, None, None, None]
        data = (cut * numbers).sum(axis=0).astype(np.uint8).T
        header["space directions"] = directions
    nrrd.write(str(path), data, header, index_order="F")
    return path


def save_seg(path: Path, segments: Mapping[str, np.ndarray], files: Sequence[Path]) -> Path:
    """A DICOM SEG over slices, whose masks are (slices, rows, cols) in the order of ``files``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Embolus,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(segments, start=1)
    ]
    hd.seg.Segmentation(
        source_images=[pydicom.dcmread(each) for each in files],
        pixel_array=np.stack([values > 0 for values in segments.values()], axis=-1),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="0",
        device_serial_number="0",
    ).save_as(path)
    return path


def save_rtstruct(
    path: Path, structures: Mapping[str, np.ndarray], study: CTStudy, every: int = 1
) -> Path:
    """Contours half a pixel around the masks, of every n-th slice, as if those were thicker ones of
    another series."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.Modality, ds.PatientID = "RTSTRUCT", study.patient_id
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.study_uid, generate_uid()
    named, drawn = [], []
    for number, (name, values) in enumerate(structures.items(), start=1):
        named.append(Dataset())
        named[-1].ROINumber, named[-1].ROIName = number, name
        contours = []
        for index in range(0, len(values), every):
            for line in find_contours(np.pad(values[index] > 0, 1).astype(float), 0.5):
                rows_cols = line[:-1] - 1  # closed, and padded
                points = np.insert(rows_cols, 0, index, axis=1)
                contour = Dataset()
                contour.ContourGeometricType = "CLOSED_PLANAR"
                contour.NumberOfContourPoints = len(points)
                contour.ContourData = np.round(study.positions_mm(points), 4).ravel().tolist()
                if every == 1:
                    image = Dataset()
                    image.ReferencedSOPInstanceUID = study.sop_uids[index]
                    contour.ContourImageSequence = DicomSequence([image])
                contours.append(contour)
        drawn.append(Dataset())
        drawn[-1].ReferencedROINumber = number
        drawn[-1].ContourSequence = DicomSequence(contours)
    ds.StructureSetROISequence = DicomSequence(named)
    ds.ROIContourSequence = DicomSequence(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def zipped(folder: Path, target: Path) -> Path:
    """A folder as a zip, without its own name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.make_archive(str(target.with_suffix("")), "zip", folder))


def write_mask(path: Path, ending: str, mask: np.ndarray, study: CTStudy) -> Path:
    lungs = np.zeros_like(mask)
    lungs[2:6, 8:30, 4:36] = 1
    structures = {"Lung": lungs, "PE": mask}
    target = path.with_name(f"{path.name}{ending}")
    if ending == ".seg.nrrd":
        return save_slicer(target, structures, study)
    if ending == "_seg":
        return save_seg(target, structures, study.files)
    if ending == "_rs":
        return save_rtstruct(target, structures, study)
    if ending == ".mha":
        return save_metaimage(target, mask, study)
    return save_nifti(target, mask, study, ras=True)


def write_hospital(raw: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seven studies: nested folders, a zip, a NIfTI; five kinds of masks; a table with semicolons
    in Windows' letters. The true masks and HU."""
    masks, hu, lines = {}, {}, []
    for number, name in enumerate(NAMES):
        folder = raw / f"Export {number % 2}" / name / "CT" / "Thorax"
        study, masks[name] = write_study(folder, name, None if name in MASKED else EMPTY)
        hu[name] = study.all_hu()
        path, mask = folder.relative_to(raw).as_posix().replace("/", "\\"), ""
        if name in MASKED:
            file = write_mask(raw / "Masken" / name, MASKED[name], masks[name], study)
            mask = file.relative_to(raw).as_posix()
        if name == "A2":
            path = zipped(folder, raw / "zip" / "A2.zip").relative_to(raw).as_posix()
            shutil.rmtree(raw / "Export 1" / "A2")
        if name == "A3":
            path = save_nifti(raw / "volumes" / "A3.nii.gz", hu[name], study, ras=True)
            path = path.relative_to(raw).as_posix()
            shutil.rmtree(raw / "Export 0" / "A3")
        pe = {"B1": "nein", "B2": ""}.get(name, "ja")
        lines.append(f"{name};Müller {number // 2};{path};{pe};{mask};1,5")
    text = "Study;Patient;Path;PE;Mask;Dosis\r\n" + "\r\n".join(lines)
    (raw / "studies.csv").write_text(text, encoding="cp1252")
    return masks, hu


def by_study(root: Path) -> dict[str, list[dict]]:
    """The slices of each study of a converted set in order, by the name of the study."""
    found: dict[str, list[dict]] = {}
    names = {uid_of(name): name for name in (*NAMES, "E1")}
    for image in sorted(all_images(root), key=lambda each: each["slice_index"]):
        name = names.get(image["study_uid"], image["study_uid"].removeprefix("own-"))
        found.setdefault(name, []).append(image)
    return found
