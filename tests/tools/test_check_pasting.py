"""Pasted emboli lie in vessels of painted chests."""


def test_most_pasted_pixels_lie_in_vessels_of_the_lungs(load_tool, painted_set):
    data, truth = painted_set
    found = load_tool("check_pasting").count_places(data, truth)
    assert found["slices"] == 32 and found["changed"] >= 1
    vessels = found["pixels"].get("artery", 0) + found["pixels"].get("vein", 0)
    assert vessels > 0.6 * sum(found["pixels"].values())
