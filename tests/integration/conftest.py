"""Fleets for tests with real processes; whatever still runs at the end of a test is killed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fleet import SMALL, WIDE, Rules, Site, a_contract

WITHOUT_TORCH = (sys.executable, str(Path(__file__).parent / "serve_without_torch.py"))
# Room for two blocks of the small model on a large board, for one on a small board.
UNEVEN = "model_share = 3.8e-5\nmin_bits = 8"
# Few centers to choose from and one model make quick steps.
QUICK = "min_bits = 2\nmax_bits = 2\nmax_models = 1"

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of the real compiler, built once."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def a_silent_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    """Make sites for devices that only speak: the small model, bundles that nobody can run."""
    cache = tmp_path_factory.mktemp("stand-ins")
    made: list[Site] = []

    def build(name: str, devices: int = 1, database: str = "") -> Site:
        root = tmp_path_factory.mktemp(name) / "site"
        rules = Rules(devices, budget=UNEVEN, serve=WITHOUT_TORCH, database=database)
        made.append(Site(root, a_contract(SMALL), cache, rules))
        made[-1].start()
        return made[-1]

    yield build
    for site in made:
        site.close()


@pytest.fixture
def a_site(compiled: Path, tmp_path: Path) -> Iterator[MakeSite]:
    """Make sites whose devices train: the wide model, bundles of the real compiler."""
    made: list[Site] = []

    def build(devices: int = 1, total: int = 1) -> Site:
        made.append(_training_site(tmp_path / "site", compiled, devices, total))
        return made[-1]

    yield build
    for site in made:
        site.close()


@pytest.fixture(scope="session")
def finished(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A run of three rounds with the devices a and b in which nothing happened."""
    site = _training_site(tmp_path_factory.mktemp("finished") / "site", compiled, 2, 3)
    try:
        clients = [site.client(name) for name in ("a", "b")]
        for client in clients:
            client.start()
        assert [client.end() for client in clients] == [0, 0]
    finally:
        site.close()
    return site


def _training_site(root: Path, compiled: Path, devices: int, total: int) -> Site:
    site = Site(root, a_contract(WIDE), compiled, Rules(devices, total, QUICK))
    site.start()
    return site
