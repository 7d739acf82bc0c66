from pathlib import Path

from coordinator.config import CONFIG_NAME, CoordinatorConfig, read_config
from coordinator.planner import plan_for
from devices.profile import DeviceProfile
from reefleet.demo.scenario import BOARDS, CONTRACT, settings


def loaded(folder: Path) -> CoordinatorConfig:
    text = settings(rounds=3, seed=7, public_data=folder / 'odd "name".npz')
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    return read_config(folder)


def test_the_settings_are_those_of_a_coordinator(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.rounds.total, config.rounds.min_devices, config.model.seed) == (3, 5, 7)
    assert config.model.public_data == tmp_path / 'odd "name".npz'
    assert config.listen.host == "127.0.0.1"


def test_boards_of_different_size_get_different_sub_models(tmp_path: Path) -> None:
    budget = loaded(tmp_path).budget
    plans = [
        plan_for(DeviceProfile(board, train_samples=160), CONTRACT.spec, budget) for board in BOARDS
    ]
    depths = [plan.exit_depth for plan in plans]
    assert depths == sorted(depths)
    assert len(set(depths)) >= 3
    assert depths[-1] == CONTRACT.spec.depth
    assert len({plan.bits for plan in plans}) >= 2
    assert {plan.models for plan in plans} == {1, 2}
