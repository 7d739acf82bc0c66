"""Bad files and settings on the command line: an exit code, one line, nothing changed on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coordinator.folder import create
from tests.integration.fleet import SMALL, Site, a_contract
from tests.integration.running import DEADLINE_S, REEFLEET, environment

pytestmark = pytest.mark.integration


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file below; a lock is taken whether or not the work can be done."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in folder.rglob("*")
        if path.name != "lock"
    }


def refused(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and the one line of a command that is to fail and to leave `folder` alone."""
    before = tree(folder)
    found = subprocess.run(
        [*REEFLEET, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
        env=environment(),
        check=False,
    )
    assert found.stdout == ""
    assert found.stderr.startswith("reefleet: "), found.stderr
    assert found.stderr.count("\n") == 1, found.stderr
    assert tree(folder) == before
    return found.returncode, found.stderr


# edge infer


@pytest.fixture
def answering(finished: Site, tmp_path: Path) -> Path:
    """A folder with the sub-model of a device and an image that it answers."""
    shutil.copytree(finished.state_of("a") / "submodel", tmp_path / "bundle")
    Image.fromarray(np.full((4, 4), 128, np.uint8)).save(tmp_path / "good.png")
    return tmp_path


def damaged_image(folder: Path) -> None:
    data = (folder / "good.png").read_bytes()
    (folder / "image.png").write_bytes(data[: len(data) - 30])


def no_image(folder: Path) -> None:
    (folder / "image.png").write_text("seven")


def missing_image(_folder: Path) -> None:
    """Nothing is there."""


def newer_manifest(folder: Path) -> None:
    shutil.copy(folder / "good.png", folder / "image.png")
    values = json.loads((folder / "bundle/manifest.json").read_text())
    (folder / "bundle/manifest.json").write_text(json.dumps({**values, "format": 2}))


def flipped_byte(folder: Path) -> None:
    shutil.copy(folder / "good.png", folder / "image.png")
    data = bytearray((folder / "bundle/stage-1.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "bundle/stage-1.onnx").write_bytes(data)


def short_weights(folder: Path) -> None:
    shutil.copy(folder / "good.png", folder / "image.png")
    data = (folder / "bundle/weights.rft").read_bytes()
    (folder / "bundle/weights.rft").write_bytes(data[:-1])


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (damaged_image, 65, "image.png is damaged"),
        (no_image, 65, "image.png is not an image"),
        (missing_image, 66, "image.png cannot be read"),
        (newer_manifest, 76, "has format 2, this program reads up to 1"),
        (flipped_byte, 76, "stage-1.onnx is not the file that the manifest names"),
        (short_weights, 76, "weights.rft has"),
    ],
)
def test_what_cannot_be_answered_is_named(
    answering: Path, break_it: Callable[[Path], None], code: int, words: str
) -> None:
    break_it(answering)
    found, line = refused(answering, "edge", "infer", "bundle", "image.png")
    assert (found, words in line) == (code, True), line


@pytest.mark.slow
@pytest.mark.torch
def test_the_same_bundle_answers_a_good_image(answering: Path) -> None:
    found = subprocess.run(
        [*REEFLEET, "edge", "infer", "bundle", "good.png", "--json"],
        capture_output=True,
        timeout=DEADLINE_S,
        cwd=answering,
        env=environment(),
        check=True,
    )
    assert json.loads(found.stdout)["label"] in {"a", "b", "c"}


# edge enroll, edge run


@pytest.fixture(scope="module")
def site(a_silent_site: Callable[..., Site]) -> Site:
    made = a_silent_site("commands")
    made.enroll("a")
    return made


def test_a_wrong_token_leaves_no_trace(site: Site, tmp_path: Path) -> None:
    server = f"127.0.0.1:{site.enrollment_port}"
    given = ["--server", server, "--ca", str(site.folder.ca_cert), "--token", "guess"]
    code, line = refused(tmp_path, "edge", "enroll", *given, "--state", "state")
    assert (code, "not known here" in line) == (77, True), line


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"1,2,3\n", 65, "data.npz is damaged"),
        (b"PK\x03\x04" + bytes(40), 65, "data.npz is damaged"),
        (None, 66, "data.npz does not exist"),
    ],
)
def test_data_that_are_no_pack_are_named(
    site: Site, tmp_path: Path, data: bytes | None, code: int, words: str
) -> None:
    shutil.copytree(site.state_of("a"), tmp_path / "state")
    if data:
        (tmp_path / "data.npz").write_bytes(data)
    found, line = refused(tmp_path, "edge", "run", "--state", "state", "--data", "data.npz")
    assert (found, words in line) == (code, True), line


# coordinator serve


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A coordinator's folder that has never been served."""
    contract = tmp_path / "contract.json"
    contract.write_text(json.dumps(a_contract(SMALL).to_json()))
    create(tmp_path / "fleet", "barn", contract, None)
    return tmp_path


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder / "fleet")


def unknown_key(folder: Path) -> None:
    with (folder / "fleet/coordinator.toml").open("a") as stream:
        stream.write("max_speed = 3\n")


def no_contract(folder: Path) -> None:
    (folder / "fleet/contract.json").unlink()


def newer_state(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "fleet/state.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (no_folder, 66, "fleet holds no coordinator"),
        (unknown_key, 78, "coordinator.toml: unknown key budget.max_speed = 3"),
        (no_contract, 66, "contract.json"),
        (newer_state, 76, "written by a newer Reefleet"),
    ],
)
def test_a_coordinator_that_cannot_be_served_is_named(
    fleet: Path, break_it: Callable[[Path], None], code: int, words: str
) -> None:
    break_it(fleet)
    found, line = refused(fleet, "coordinator", "serve", "fleet")
    assert (found, words in line) == (code, True), line


def test_a_folder_that_is_being_served_is_not_served_twice(site: Site) -> None:
    code, line = refused(site.folder.root, "coordinator", "serve", str(site.folder.root))
    assert (code, "another coordinator is serving" in line) == (74, True), line
