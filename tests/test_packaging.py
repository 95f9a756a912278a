"""What is shipped beside the code: attributions, links of the README, the contributors' guide."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clipig.config import load_text
from clipig.errors import ConfigError
from clipig.ops.transforms import Transform, color
from tests.support.ops_contract import picture, view_draw
from training.sources import ICON_SETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("style", ICON_SETS)
def test_notice_and_model_card_name_each_icon_set_and_version(style: str) -> None:
    package, version = ICON_SETS[style]
    assert f"{package} {version}" in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert f"`{package}` {version}" in (ROOT / "docs/embedded.md").read_text(encoding="utf-8")


def test_no_relative_link_of_the_readme_is_left_on_a_package_index() -> None:
    text = README
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_config_and_the_error_of_the_readme_belong_together() -> None:
    (config,) = re.findall(r"```yaml\n(epochs.*?)```", README, re.S)
    (message,) = re.findall(r"^my\.yaml:.*$", README, re.M)
    load_text(config, "my.yaml")
    with pytest.raises(ConfigError) as fault:
        load_text(config.replace("- noise:", "- nois:"), "my.yaml")
    assert str(fault.value) == message


def test_the_transform_of_the_contributors_guide_works() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (indented,) = re.findall(r"    ```python\n(.*?)    ```", guide, re.S)
    names = {**vars(color)}
    exec(re.sub(r"^    ", "", indented, flags=re.M), names)
    op: Transform = names["RandomInvert"]()
    views = picture(3, 4, 3, 8, 8)
    always, never = (
        op.apply(views, type("P", (), {"probability": torch.full((1, 1, 1), chance)}),
                 op.sample(view_draw(), None, (8, 8)))
        for chance in (1.0, 0.0)
    )
    torch.testing.assert_close(always, 1 - views)
    assert torch.equal(never, views)
