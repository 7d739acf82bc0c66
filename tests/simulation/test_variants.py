from __future__ import annotations

from pathlib import Path

import pytest

from reefleet.errors import ConfigError
from reefleet.simulation.variants import read_experiment

BASE = """\
name = "x"
methods = ["reefl"]

[training]
rate = 0.03
distillation = 0.5
"""


def written(folder: Path, more: str) -> Path:
    path = folder / "x.toml"
    path.write_text(BASE + more)
    return path


def test_a_variant_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    more = """
[[variants]]
name = "raw"
method = "reefl@2"
model = { modulation = "off" }
training = { distillation = 0.0 }
"""
    base, (raw,) = read_experiment(written(tmp_path, more))
    assert (raw.name, raw.method) == ("raw", "reefl@2")
    assert raw.experiment.model.modulation == "off"
    assert raw.experiment.training.distillation == 0.0
    assert raw.experiment.training.rate == base.training.rate == 0.03
    assert base.model.modulation == "on"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[[variants]]\nname = "a"', "None"),
        ('[[variants]]\nname = "../a"\nmethod = "reefl"', "plain name"),
        ('[[variants]]\nname = "reefl"\nmethod = "reefl"', "twice"),
        ('[[variants]]\nname = "a"\nmethod = "reefl"\nmodel = { wings = 2 }', r"variant a.*wings"),
        ('[[variants]]\nname = "a"\nmethod = "reefl"\nrate = 3', "rate = 3 must be a table"),
        ("[variants]\nname = 3", r"\[\[variants\]\]"),
    ],
)
def test_a_wrong_variant_is_named(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_experiment(written(tmp_path, more))


def test_an_experiment_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('name = "x"')
    with pytest.raises(ConfigError, match="methods and variants are empty"):
        read_experiment(path)
