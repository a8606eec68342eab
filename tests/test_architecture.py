"""The examples of docs/architecture.md, one after the other, as a reader would type them."""

import re

from mmengine.registry import DefaultScope

from pe_unified.registry import MODELS


def test_the_examples_run(repository, tmp_path, monkeypatch):
    text = (repository / "docs/architecture.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS._module_dict))
    names = {"__name__": "examples"}
    with DefaultScope.overwrite_default_scope("pe_unified"):
        for example in examples:
            exec(compile(example, "docs/architecture.md", "exec"), names)
