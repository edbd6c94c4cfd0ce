"""An adapter that is a plug-in is called by its file's name, wherever the file lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_healthy
import fake_pictures
import pytest

from uadbench.dataset import Dataset, adapter_name
from uadbench.errors import DataError
from uadbench.params import resolve
from uadbench.registry import Registry

CARD = """    card = DatasetCard(
        title="x", licence="x", url="x", reference="x", modality=("t1",), healthy="controls", expected={}
    )
"""
VOLUMES = f"""from dataclasses import dataclass
from uadbench.dataset import DatasetCard
from uadbench.datasets._volumes import Case, HealthySet


@dataclass
class Walks(HealthySet):
{CARD}
    def cases(self):
        return [Case(p.name, {{"t1": p}}) for p in sorted(self.root.glob("*.nii.gz"))]
"""
PICTURES = f"""from dataclasses import dataclass
from uadbench.dataset import DatasetCard
from uadbench.datasets._pictures import Picture, SharedSet


@dataclass
class Walks(SharedSet):
{CARD}
    def pictures(self):
        found = [Picture(p.stem, p, "train") for p in sorted(self.root.glob("*.png"))]
        return self.with_validation(found)
"""


def made(folder: Path, text: str, root: Path, **given: Any) -> Dataset:
    folder.mkdir()
    (folder / "walks.py").write_text(text)
    return resolve(Registry([folder / "walks.py"]).dataset("walks"), [("test", {"root": root, **given})])[0]


def test_the_split_does_not_depend_on_the_folder_of_the_plug_in(tmp_path: Path) -> None:
    root = fake_healthy.ixi(tmp_path / "data", [f"IXI{i:03}-HH-{i:04}" for i in range(30)], kinds=("T1",))
    for i in range(30):
        fake_pictures.picture(root / f"p{i}.png")
    for name, text in (("volumes", VOLUMES), ("pictures", PICTURES)):
        one, other = (made(tmp_path / f"{name}-{k}", text, root, val=0.3) for k in "ab")
        assert type(one) is not type(other)
        assert adapter_name(type(one)) == adapter_name(type(other)) == "walks"
        assert len(one.split(0).val) == 9
        assert one.split(0) == other.split(0)


def test_messages_name_the_plug_in_as_the_user_does(tmp_path: Path) -> None:
    root = fake_healthy.ixi(tmp_path / "data", kinds=("T1",))
    with pytest.raises(DataError, match=r"^walks: none of the 6 scans .* has the modality 't9'"):
        made(tmp_path / "volumes", VOLUMES, root, modality="t9").subjects()
    with pytest.raises(DataError, match=r"^walks: .* holds no picture"):
        made(tmp_path / "pictures", PICTURES, root).subjects()
