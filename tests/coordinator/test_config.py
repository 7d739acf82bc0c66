"""Settings and the folder that `init` lays down."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coordinator.config import CoordinatorConfig, read_config, read_contract, template
from coordinator.folder import Folder, create
from reefleet.errors import ConfigError, MissingFile, StoreError
from reefleet.settings import load


def test_the_template_states_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(template("fleet", None))
    assert load(CoordinatorConfig, path) == CoordinatorConfig()


def test_every_setting_of_the_template_that_is_commented_out_is_known(tmp_path: Path) -> None:
    lines = template("fleet", None).splitlines()
    shown = [line.removeprefix("# ") if " = " in line else line for line in lines[3:]]
    path = tmp_path / "coordinator.toml"
    path.write_text("\n".join(shown))
    config = load(CoordinatorConfig, path)
    assert config.model.checkpoint is not None
    assert config.budget.latency_ms == 50.0


def test_init_keeps_keys_from_other_users(tmp_path: Path, contract_file: Path) -> None:
    folder = create(tmp_path / "new", "barn", contract_file, None)
    pki = folder.ca_key.parent
    assert stat.S_IMODE(pki.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.iterdir()} == {0o600}
    assert read_config(folder.root).fleet == "barn"
    assert read_contract(folder.contract).labels == ("a", "b", "c")


def test_init_never_replaces_an_authority(tmp_path: Path) -> None:
    folder = create(tmp_path / "new", "barn", None, None)
    before = folder.ca_key.read_bytes()
    with pytest.raises(ConfigError, match="not set up twice"):
        create(tmp_path / "new", "barn", None, None)
    assert folder.ca_key.read_bytes() == before


def test_init_refuses_files_it_cannot_use_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "noise").write_text("noise")
    (tmp_path / "list").write_text("[]")
    cases = [
        (tmp_path / "noise", None, ConfigError),
        (tmp_path / "list", None, ConfigError),
        (tmp_path / "absent", None, MissingFile),
        (None, tmp_path / "absent", MissingFile),
    ]
    for contract, data, error in cases:
        with pytest.raises(error):
            create(tmp_path / "new", "barn", contract, data)
        assert not (tmp_path / "new").exists()


def test_a_folder_without_settings_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="reefleet coordinator init"):
        read_config(tmp_path)


def test_what_a_killed_coordinator_left_half_written_is_swept_away(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (folder.blobs / "ab").mkdir(parents=True)
    whole, half = folder.blobs / "ab" / ("ab" * 32), folder.blobs / "ab" / ".tmp-x"
    whole.touch()
    half.touch()
    (tmp_path / "pretrain-x").mkdir()
    folder.sweep()
    assert (whole.exists(), half.exists()) == (True, False)
    assert not (tmp_path / "pretrain-x").exists()


def test_a_folder_serves_one_coordinator_at_a_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.held(), pytest.raises(StoreError, match="another coordinator"), folder.held():
        pass
    with folder.held():
        pass
