import pytest


@pytest.mark.parametrize("config", ["unets/xnet", "unets/tiny_unet2", "unets/monai_attention_unet"])
def test_the_documentation_has_the_numbers_that_the_command_prints(repository, load_tool, config):
    _, name, *counts, _ = load_tool("count_parameters").row(config).split("|")
    lines = (repository / "docs" / "unets.md").read_text().splitlines()
    (told,) = [line for line in lines if line.startswith(f"|{name}|")]
    assert told.split("|")[4:6] == counts


def test_a_net_without_presets_is_told_once(load_tool):
    row = load_tool("count_parameters").row("unets/unet_resnet34", {"model.backbone.depth": 18})
    assert row == "| unets/unet_resnet34 | 37.53 M | |"
