import pickle
from dataclasses import replace

import pytest
from headers import header

from pe_unified.ct.headers import scan_folder
from pe_unified.ct.patients import SeveralStudies, choose_study, studies_of
from pe_unified.ct.series import choose_series
from pe_unified.errors import DataError


def slices(patient, study, count=3, date="20200101", series=None, **changes):
    names = {"patient_id": patient, "study_uid": study, "series_uid": series or f"{study}.1"}
    return [header(k, z=k, study_date=date, **names, **changes) for k in range(count)]


def own_paths(headers, mark):
    return [replace(each, path=each.path.with_name(f"{mark}{k}")) for k, each in enumerate(headers)]


def test_patients_and_studies_are_told_apart():
    files = [
        *own_paths(slices("A", "1", date="20210203"), "a"),
        *own_paths(slices("A", "2", date="20190101"), "b"),
        *own_paths(slices("B", "3"), "c"),
    ]
    with pytest.raises(SeveralStudies) as told:
        choose_study(files, "folder")
    assert told.value.reason == "3 studies of 2 patients"
    assert told.value.names == ("A/2", "A/1", "B/3")
    assert "patient 'A' study '1' of '2021-02-03' with 3 slices" in str(told.value)
    assert "'" not in told.value.without_names().replace("'...'", "")
    for wanted in ("3", "B", "B/3"):
        chosen, notes = choose_study(files, "folder", wanted)
        assert chosen == files[6:] and notes == ["left out 6 slices of other patients"]
    with pytest.raises(SeveralStudies, match="2 studies; choose one"):
        choose_study(files, "folder", "A")
    with pytest.raises(SeveralStudies, match="newest works only for studies of one patient"):
        choose_study(files, "folder", "newest")
    with pytest.raises(DataError, match="no study '9'; the studies here are: patient 'A'"):
        choose_study(files, "folder", "9")
    again = pickle.loads(pickle.dumps(told.value.at("elsewhere")))
    assert again.names == told.value.names and again.where == "elsewhere"


def test_the_newest_study_is_that_of_the_latest_date_and_time():
    old = own_paths(slices("A", "2", study_time="230000"), "a")
    new = own_paths(slices("A", "1", date="2020.01.02", study_time="0100"), "b")
    chosen, notes = choose_study([*old, *new], "folder", "newest")
    assert chosen == new and notes == ["left out 3 slices of other studies"]
    assert choose_study(old, "folder", "newest") == (old, [])
    undated = own_paths(slices("A", "3", date=""), "c")
    with pytest.raises(SeveralStudies, match="their dates do not tell"):
        choose_study([*old, *undated], "folder", "newest")


def test_silence_is_no_other_patient():
    stated, nameless = slices("A", "1"), slices("", "1")
    silent = slices("", "", series="x")
    for files in ([*stated, *nameless], [*stated, *silent], [*silent, *nameless]):
        assert choose_study(files, "folder") == (files, [])
    # Of two, a series that one of them shares belongs to it; any other could be of either.
    a = own_paths(slices("A", "1", series="s"), "a")
    b = own_paths(slices("B", "2", series="t"), "b")
    of_b = own_paths(slices("", "", series="t"), "c")
    either = own_paths(slices("", "", series="u"), "d")
    studies, unclear = studies_of([*a, *b, *of_b, *either])
    assert [len(study.slices) for study in studies] == [3, 6] and unclear == either
    _, notes = choose_study([*a, *b, *of_b, *either], "folder", "A")
    assert notes[-1] == "left out 3 slices that do not name their patient"


def test_patients_without_studies_are_chosen_by_their_ids():
    files = [*own_paths(slices("A", "", series="s"), "a"), *own_paths(slices("B", ""), "b")]
    with pytest.raises(SeveralStudies, match="choose one with --study and the ID of the patient"):
        choose_study(files, "folder")
    assert choose_study(files, "folder", "B")[0] == files[3:]


@pytest.mark.parametrize("name", ["two_patients", "two_studies", "agent_none"])
def test_real_files_of_this_kind(repository, name):
    folder = repository.parent / "shared" / "faults" / name
    if not folder.is_dir():
        pytest.skip("the real files are not here")
    headers = scan_folder(folder).headers
    if name == "agent_none":
        choice = choose_series(headers, name)
        assert not any(each.contrast for each in choice.slices)
        return
    with pytest.raises(SeveralStudies) as told:
        choose_series(headers, name)
    assert len(told.value.names) == 2
    if name == "two_studies":
        choice = choose_series(headers, name, study="newest")
        assert {each.study_date for each in choice.slices} == {"20010101"}
