from __future__ import annotations

import pytest

from devices import catalog
from devices.board import read_board
from devices.catalog import Board
from devices.systems import systems
from reefleet.errors import ConfigError, UnknownBoard

BOARDS = {
    "rpi-zero2w",
    "rpi-3bplus",
    "rpi-4b",
    "rpi-cm4",
    "rpi-5",
    "jetson-nano-4gb",
    "jetson-tx2nx",
    "jetson-xavier-nx",
    "jetson-orin-nano-4gb",
    "jetson-orin-nano-8gb",
    "jetson-orin-nano-super",
    "jetson-orin-nx-8gb",
    "jetson-orin-nx-16gb",
    "jetson-agx-orin-32gb",
    "jetson-agx-orin-64gb",
    "jetson-agx-thor",
}

each_board = pytest.mark.parametrize("board", catalog.boards().values(), ids=lambda b: b.id)


def test_every_supported_board_is_there() -> None:
    assert set(catalog.boards()) == BOARDS


@each_board
def test_every_figure_names_a_source_that_is_explained(board: Board) -> None:
    named = [size.source for size in board.memory]
    named += [figure.source for figure in board.figures.values()]
    for source in named:
        for part in source.split(", "):
            assert part.partition(":")[0] in catalog.sources()


@each_board
def test_no_figure_is_both_given_and_unknown(board: Board) -> None:
    assert not set(board.unknown) & set(board.figures)
    assert set(board.unknown) <= {*catalog.FIGURES, "isa"}


@each_board
def test_zero_is_a_count_and_never_a_missing_figure(board: Board) -> None:
    for name, figure in board.figures.items():
        assert figure.value > 0 or name == "gpu_tensor_cores"


@each_board
def test_a_prior_has_a_sigma(board: Board) -> None:
    prior = board.figures.get("vit_gflops")
    assert prior is None or (prior.rel_sigma is not None and 0 < prior.rel_sigma < 1)


@each_board
def test_memory_shrinks_from_sold_to_visible_to_free(board: Board) -> None:
    for size in board.memory:
        visible = size.nominal_mib if size.visible_mib is None else size.visible_mib
        free = visible if size.available_mib is None else size.available_mib
        assert 0 < free <= visible <= size.nominal_mib


def test_no_source_is_explained_in_vain() -> None:
    named = [size.source for board in catalog.boards().values() for size in board.memory]
    for board in catalog.boards().values():
        named += [figure.source for figure in board.figures.values()]
    named += [system.source for system in systems()]
    used = {part.partition(":")[0] for source in named for part in source.split(", ")}
    assert used == set(catalog.sources())


@pytest.mark.parametrize(
    ("alias", "board"),
    [("rpi-3b-plus", "rpi-3bplus"), ("jetson-orin-nano", "jetson-orin-nano-8gb")],
)
def test_an_alias_finds_its_board(alias: str, board: str) -> None:
    assert catalog.find(alias).id == board


def test_names_and_aliases_are_unique() -> None:
    names = [name for board in catalog.boards().values() for name in (board.id, *board.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_board_is_refused_with_near_names() -> None:
    with pytest.raises(UnknownBoard, match="did you mean rpi-4b"):
        catalog.find("rpi-4")


def test_an_unknown_memory_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownBoard, match=r"3000 MiB.*1024, 2048, 4096, 8192"):
        catalog.reference_profile("rpi-4b", nominal_mib=3000)


def test_free_memory_that_nobody_measured_is_reckoned_low() -> None:
    board = catalog.find("rpi-cm4")
    known = catalog.find("rpi-4b")
    assert catalog.available_mib(board, 4096) < catalog.available_mib(known, 4096)


def test_a_reference_profile_keeps_the_name_it_was_asked_for() -> None:
    profile = catalog.reference_profile("rpi-3b-plus", train_samples=40)
    assert (profile.board, profile.memory_available_mib, profile.cores) == ("rpi-3b-plus", 775, 4)
    assert profile.train_samples == 40


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("schema = 2", "schema is 2"),
        ("schema = 1\nid = 'x'", "no 'name'"),
        ("schema = 1\nwarp = 9", "unknown key 'warp'"),
        ("schema = ", "Invalid value"),
    ],
)
def test_a_damaged_board_file_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.toml is not a board.*{complaint}"):
        read_board("x.toml", text)
