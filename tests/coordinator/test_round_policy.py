"""Settings of rounds: bad ones are refused with their name, the place and what they must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import CoordinatorConfig
from reefleet.errors import ConfigError
from reefleet.settings import load


def read(tmp_path: Path, text: str) -> CoordinatorConfig:
    path = tmp_path / "coordinator.toml"
    path.write_text(text)
    return load(CoordinatorConfig, path)


def test_rules_and_optimizers_are_chosen_by_name(tmp_path: Path) -> None:
    text = '[rounds]\nrule = "krum"\nmode = "async"\n[rounds.optimizer]\nname = "fedyogi"\nrate = 1'
    policy = read(tmp_path, text).rounds
    assert (policy.rule, policy.mode) == ("krum", "async")
    assert (policy.optimizer.name, policy.optimizer.rate) == ("fedyogi", 1.0)


BAD = {
    '[rounds]\nrule = "average"': (
        r"rounds.rule is 'average'; it must be one of mean, trimmed-mean, median, krum"
    ),
    '[rounds]\nmode = "eager"': r"rounds.mode is 'eager'; it must be one of sync, async",
    '[rounds]\nlate = "maybe"': r"rounds.late is 'maybe'; it must be one of refuse, fold",
    "[rounds]\ntrim = 0.5": r"rounds.trim is 0.5; it must be within \[0.0, 0.49\]",
    "[rounds]\nbuffer = 0": r"rounds.buffer is 0; it must be within",
    "[rounds]\nover_selection = 0.5": r"over_selection invites more than rounds.cohort",
    '[rounds.optimizer]\nname = "adam"': (
        r"rounds.optimizer.name is 'adam'; it must be one of sgd, fedavgm, fedadam, fedyogi"
    ),
    "[rounds.optimizer]\nrate = -1": r"rounds.optimizer.rate is -1; it must be within",
    "[rounds.optimizer]\nbeta = 0.9": r"unknown key rounds.optimizer.beta = 0.9",
    "[rounds.clipping]\nnorm = -1": r"rounds.clipping.norm is -1; it must be within",
    '[eligibility]\nhours = "9-17"': "eligibility.hours is '9-17'; it must be like",
    "[eligibility]\nidle = 1": r"eligibility.idle is 1; it must be true or false",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_value_is_named_with_its_file_and_what_it_must_be(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=BAD[text]) as caught:
        read(tmp_path, text)
    assert "coordinator.toml" in str(caught.value)
