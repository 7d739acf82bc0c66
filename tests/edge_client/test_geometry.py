from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edge_client.geometry import MAX_DEPTH, require_agreement
from reefleet.errors import WireError
from reefleet.wire.manifest_json import task_from_bytes


def a_manifest(kit: SimpleNamespace, **changes: Any) -> Any:
    return replace(task_from_bytes(kit.a_task_bundle()[0]), **changes)


def test_a_real_manifest_agrees_with_itself(kit: SimpleNamespace) -> None:
    require_agreement(a_manifest(kit))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: {"labels": m.labels[:1]},
        lambda m: {"preprocessing": replace(m.preprocessing, size=5)},
        lambda m: {"preprocessing": replace(m.preprocessing, std=0.0)},
        lambda m: {"preprocessing": replace(m.preprocessing, std=float("nan"))},
        lambda m: {"plan": replace(m.plan, exit_depth=7)},
        lambda m: {"stages": m.stages[:1]},
        lambda m: {"stages": m.stages[::-1]},
        lambda m: {"model": replace(m.model, depth=1 << 40, exits=(1, 1 << 40))},
        lambda m: {"model": replace(m.model, depth=MAX_DEPTH + 1, exits=(2, MAX_DEPTH + 1))},
        lambda m: {"model": replace(m.model, width=1 << 20)},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(kit: SimpleNamespace, change: Any) -> None:
    manifest = a_manifest(kit)
    with pytest.raises(WireError):
        require_agreement(replace(manifest, **change(manifest)))
