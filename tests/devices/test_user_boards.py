"""A user's own board: taken in when possible, refused by name when not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import catalog
from devices.capability import capability_of
from devices.systems import systems_of
from reefleet.errors import ConfigError, DamagedFile, MissingFile

MINE = """\
schema = 1
id = "acme-one"
name = "Acme One"
aliases = ["acme"]
family = "acme"
soc = "A1"
cpu = "8x Cortex-A55"
uarch = "armv8.2-a55"
isa = ["neon", "int8-dotprod"]
device_tree = ["Acme One"]
unknown = ["idle_w"]
reference_mib = 2048

[[memory]]
nominal_mib = 2048
visible_mib = 1900
available_mib = 1700
source = "own"

[figures]
cores = { value = 8, source = "own" }
clock_mhz = { value = 1800, source = "own" }
vit_gflops = { value = 9.5, rel_sigma = 0.3, source = "own", note = "measured" }
ethernet_mbps = { value = 1000, source = "own" }
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalog whose user folder is this test's own."""
    monkeypatch.setenv(catalog.FOLDER_VARIABLE, str(tmp_path / "boards"))
    catalog.forget()
    yield tmp_path / "boards"
    catalog.forget()


def a_file(folder: Path, text: str = MINE) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_added_board_is_known_and_stays(tmp_path: Path, own_folder: Path) -> None:
    catalog.add(a_file(tmp_path))
    catalog.forget()
    assert catalog.find("acme").id == "acme-one"
    assert [path.name for path in own_folder.iterdir()] == ["acme-one.toml"]
    device = capability_of(catalog.reference_profile("acme-one"))
    assert device.rates.vit_gflops == 9.5
    assert systems_of(catalog.find("acme")) == ()


def test_adding_it_again_replaces_it(tmp_path: Path) -> None:
    catalog.add(a_file(tmp_path))
    catalog.add(a_file(tmp_path, MINE.replace("9.5", "12")))
    assert catalog.find("acme-one").value("vit_gflops") == 12


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('id = "acme-one"', 'id = "rpi-5"', "'rpi-5' already"),
        ('aliases = ["acme"]', 'aliases = ["rpi-4b"]', "'rpi-4b' already"),
        ('id = "acme-one"', 'id = "Acme One!"', "'Acme One!' cannot be"),
        ('soc = "A1"', 'soc = "A1"\nwarp = 9', "unknown key 'warp'"),
        ('soc = "A1"\n', "", "no 'soc'"),
        ("value = 8,", "value = 0,", "figure cores is 0"),
        ("value = 8,", "value = 2.5,", "figure cores is 2.5"),
        ("value = 1800,", "value = nan,", "figure clock_mhz is nan"),
        ("value = 1800,", "value = 1800000,", "figure clock_mhz is 1800000"),
        ("value = 9.5,", 'value = "fast",', "figure vit_gflops is 'fast'"),
        ("rel_sigma = 0.3, ", "", "no rel_sigma"),
        ("rel_sigma = 0.3", "rel_sigma = -1", "rel_sigma of figure vit_gflops is -1"),
        ("cores = {", "corse = {", "unknown figure 'corse'"),
        ("visible_mib = 1900", "visible_mib = 1900000", "memory visible_mib is 1900000"),
        ("available_mib = 1700", "available_mib = 1950", "memory available_mib is 1950"),
        ("reference_mib = 2048", "reference_mib = 1024", "reference_mib is 1024"),
        ('unknown = ["idle_w"]', 'unknown = ["cores"]', "'cores' is given and"),
        ('unknown = ["idle_w"]', 'unknown = ["warp"]', "'warp'"),
        ('isa = ["neon", "int8-dotprod"]', "isa = 3", "isa is 3"),
        ("[[memory]]", "[[memories]]", "unknown key 'memories'"),
        ('source = "own" }', 'colour = "own" }', "unknown key 'colour'"),
    ],
)
def test_an_impossible_board_is_refused_by_name_and_nothing_is_added(
    tmp_path: Path, own_folder: Path, old: str, new: str, named: str
) -> None:
    assert old in MINE
    with pytest.raises(ConfigError, match=rf"mine\.toml.*{named}"):
        catalog.add(a_file(tmp_path, MINE.replace(old, new, 1)))
    assert not own_folder.exists()


def test_a_file_that_is_absent_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"absent\.toml"):
        catalog.add(tmp_path / "absent.toml")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFile, match=r"mine\.toml"):
        catalog.add(tmp_path / "mine.toml")
