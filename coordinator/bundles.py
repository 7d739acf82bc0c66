"""Compiled task bundles: built in a separate process, cached by content key, kept as blobs, signed.

The key is the digest of everything a bundle depends on: the model contract, the plan without its
explanation, and the compiler's own sources and libraries. The cache outlives runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.children import Children
from coordinator.records import Artifact, Bundle
from coordinator.store import Store
from coordinator.tracing import span
from reefleet.blobs import BlobStore, write_atomic
from reefleet.errors import ChecksumMismatch, ExportError, MissingFile, ReefleetError
from reefleet.model import ModelContract
from reefleet.plan import SubmodelPlan
from reefleet.rpc.identity import sign
from reefleet.wire.manifest import TaskBundle
from reefleet.wire.manifest_json import task_from_bytes

logger = logging.getLogger(__name__)

COMPILER = (sys.executable, "-m", "reefleet", "export", "compile")
MANIFEST = "manifest.json"
_COMPILER_SOURCES = (
    "export",
    "reefleet.learning",
    "reefleet.geometry",
    "reefleet.model",
    "reefleet.wire.manifest",
)
_COMPILER_WHEELS = ("torch", "onnx", "onnxruntime")
_TEMPORARY = "tmp-"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where and how bundles are compiled; `command` gets --contract, --plan and --out."""

    cache: Path
    logs: Path
    parallel: int
    timeout_s: float
    command: Sequence[str] = COMPILER


class Bundles:
    """Makes the bundles that plans need; `on_change` is called when one is there or has failed."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        contract: ModelContract,
        manifest_key: bytes,
        workshop: Workshop,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._contract = contract
        self._manifest_key = manifest_key
        self._workshop = workshop
        self._on_change = on_change
        self._children = Children()
        self._compiler = compiler_version(workshop.command)
        _sweep(workshop)
        self._pool = ThreadPoolExecutor(workshop.parallel, thread_name_prefix="compile")
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._closing = False

    def key(self, plan: SubmodelPlan) -> str:
        """Content key of the bundle for `plan`, 64 hex digits."""
        parts = [self._contract.to_json(), _bare(plan).to_json(), self._compiler]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def want(self, plan: SubmodelPlan) -> str:
        """See to it that the bundle for `plan` gets made; returns its key at once."""
        key = self.key(plan)
        if self._store.bundle(key):
            self._on_change()
            return key
        with self._lock:
            if key not in self._pending:
                self._pending.add(key)
                self._pool.submit(self._make, key, _bare(plan))
        return key

    def close(self) -> None:
        """Stop compiling; what was under way is begun again at the next start."""
        self._closing = True
        self._children.close()
        self._pool.shutdown(cancel_futures=True)

    def _make(self, key: str, plan: SubmodelPlan) -> None:
        reason = ""
        try:
            self._store.add_bundle(self._adopt_or_compile(key, plan))
        except (ReefleetError, OSError) as error:
            reason = str(error)
        with self._lock:
            self._pending.discard(key)
        facts = {"bundle": key[:12], "depth": plan.exit_depth, "bits": plan.bits}
        if not reason:
            logger.info("Bundle ready", extra=facts)
        elif not self._closing:
            logger.error("Bundle failed", extra={**facts, "reason": reason})
            self._store.fail_bundle(key, reason)
        self._on_change()

    def _adopt_or_compile(self, key: str, plan: SubmodelPlan) -> Bundle:
        folder = self._workshop.cache / key
        if folder.is_dir():
            try:
                return self._adopt(key, folder, plan)
            except ReefleetError as error:
                logger.warning("Cached bundle is damaged", extra={"reason": str(error)})
                shutil.rmtree(folder)
        with span("compile", bundle=key[:12], depth=plan.exit_depth, bits=plan.bits):
            self._compile(key, plan, folder)
        return self._adopt(key, folder, plan)

    def _compile(self, key: str, plan: SubmodelPlan, folder: Path) -> None:
        cache = self._workshop.cache
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=_TEMPORARY) as name:
            work = Path(name)
            contract, wanted, out = work / "contract.json", work / "plan.json", work / "bundle"
            write_atomic(contract, json.dumps(self._contract.to_json()).encode())
            write_atomic(wanted, json.dumps(plan.to_json()).encode())
            command = [*self._workshop.command, "--contract", str(contract)]
            command += ["--plan", str(wanted), "--out", str(out)]
            log = self._workshop.logs / f"compile-{key[:12]}.log"
            self._children.run(command, log, self._workshop.timeout_s)
            if not folder.is_dir():  # another coordinator on the same cache may have been faster
                out.rename(folder)

    def _adopt(self, key: str, folder: Path, plan: SubmodelPlan) -> Bundle:
        try:
            data = (folder / MANIFEST).read_bytes()
        except OSError as error:
            msg = f"the compiled bundle has no {MANIFEST}: {error.strerror}"
            raise MissingFile(msg) from error
        manifest = task_from_bytes(data)
        self._check(manifest, plan)
        for name, entry in sorted(manifest.files.items()):
            if self._blobs.renew(entry.sha256):
                continue
            if self._blobs.put_file(folder / name) != entry.sha256:
                msg = f"file {name} of the compiled bundle is not what its manifest says"
                raise ChecksumMismatch(msg)
        return Bundle(
            key=key,
            manifest=Artifact(self._blobs.put(data), len(data)),
            signature=sign(self._manifest_key, data),
            files=tuple({Artifact(e.sha256, e.size_bytes) for e in manifest.files.values()}),
        )

    def _check(self, manifest: TaskBundle, plan: SubmodelPlan) -> None:
        contract = ModelContract(manifest.model, manifest.preprocessing, manifest.labels)
        if contract != self._contract or _bare(manifest.plan) != plan:
            msg = "the compiled bundle is for another model or plan than was asked for"
            raise ExportError(msg)


def compiler_version(command: Sequence[str] = COMPILER) -> str:
    """Digest of the compiler's command, sources and libraries; none of them is imported."""
    digest = hashlib.sha256("\0".join(command[1:]).encode())
    for name in _COMPILER_SOURCES:
        for path in _sources(name):
            digest.update(path.name.encode() + path.read_bytes())
    for name in _COMPILER_WHEELS:
        digest.update(f"{name} {_wheel_version(name)}\n".encode())
    return digest.hexdigest()


def _sources(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin else []
    return sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.py"))


def _wheel_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _sweep(workshop: Workshop) -> None:
    """Remove what a killed coordinator left; the cache may be shared, so only what is too old."""
    oldest = time.time() - workshop.timeout_s
    for path in workshop.cache.glob(f"{_TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def _bare(plan: SubmodelPlan) -> SubmodelPlan:
    # Where a round ends early is told with each task; the graphs do not depend on it.
    return replace(plan, why=(), local_steps=0)
