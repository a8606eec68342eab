"""Decisions that cannot be applied leave their study out, with the reason."""

from review_reading import READER


def test_one_embolus_added_by_two_readers_is_refused(reading):
    for number in reading.called:
        reading.say("reject", number)
    for reader in (READER, "Bo"):
        reading.say("add", None, reading.draw((5, 40, 44, 8, 12)), reader=reader)
        reading.say("done", reader=reader)
    first = len(reading.lesions) + 1
    (reason,) = reading.export().left_out
    assert f"has lesions {first} and {first + 1} on the same pixels" in reason


def test_what_is_unfinished_is_left_out_and_said(reading):
    first, *rest = reading.called
    reading.say("accept", first)
    assert "is not done" in reading.export().left_out[0]
    reading.say("done")
    (reason,) = reading.export().left_out
    assert f"nothing is decided on lesion {', '.join(map(str, rest))};" in reason
    for number in rest:
        reading.say("reject", number)
    reading.say("relabel", None, {"label": "negative"})
    reading.say("done")
    (reason,) = reading.export().left_out
    assert "has the verdict negative, but 1 lesions are kept" in reason
    assert not (reading.root / "out" / "studies").exists()


def test_a_drawn_mask_that_is_gone_leaves_its_study_out(reading):
    first, *rest = reading.called
    drawn = reading.draw((3, 30, 34, 20, 25))
    reading.say("redraw", first, drawn)
    for number in rest:
        reading.say("accept", number)
    reading.say("done")
    (reading.report.folder / "redrawn" / drawn["mask"]).unlink()
    (reason,) = reading.export().left_out
    assert f"no redrawn mask '{drawn['mask']}'" in reason
