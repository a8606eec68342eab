"""The sample of one study: a volume, or patches of it."""

from mmengine.structures import BaseDataElement


class PEVolumeSample(BaseDataElement):
    """Labels and predictions of a volume (levels, rows, cols), or of patches of one.

    A field that is absent is *unknown*: no head learns from it and no metric counts it.

    Fields:
        gt_lesion: uint8 (patches, levels, rows, cols), 1 = embolus; one patch for a whole volume.
        gt_artery: likewise; veins are background.
        gt_lesions: :class:`~pe_unified.datasets.volume_records.LesionMap` of a whole study, in the
            study's own voxels.
        pred_lesion, pred_artery: float32 (levels, rows, cols), probabilities.
        pred_marks: float64 (marks, 4): level, row and column on the grid, and probability.

    Meta information:
        patient_id, group, study_uid, img_path (of the folder of slices);
        grid: :class:`~pe_unified.ct.volume_grid.VolumeGrid`, the position of a whole volume;
        starts: for patches, the first voxel of each before rotation, (patches, 3).
    """
