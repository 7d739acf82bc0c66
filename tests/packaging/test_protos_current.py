import filecmp
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".cache/protos/bin/python"


@pytest.mark.slow
@pytest.mark.skipif(not GENERATOR.exists(), reason="`make protos` has not installed the generator")
def test_the_committed_code_is_what_the_protos_give(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/protos", tmp_path], check=True, capture_output=True)
    made, kept = tmp_path / "reefleet/v1", ROOT / "reefleet/v1"
    names = {path.name for path in made.iterdir()}
    assert names == {path.name for path in kept.iterdir() if path.is_file()}
    _, differing, unreadable = filecmp.cmpfiles(made, kept, sorted(names), shallow=False)
    assert (differing, unreadable) == ([], [])


def test_each_proto_has_code_and_stubs() -> None:
    for proto in (ROOT / "proto/reefleet/v1").glob("*.proto"):
        for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert (ROOT / "reefleet/v1" / f"{proto.stem}{ending}").exists()
