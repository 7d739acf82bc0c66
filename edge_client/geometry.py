"""Whether the parts of a manifest agree on one network of a size that a client can mean."""

from __future__ import annotations

from reefleet.errors import ConfigError, WireError
from reefleet.model import ModelContract, parameter_count
from reefleet.wire.manifest import SubmodelBundle, TaskBundle

MAX_DEPTH = 1024  # the names of the tensors are listed, so depth alone can fill a small memory
MAX_PARAMETERS = 1 << 29


def require_agreement(manifest: TaskBundle | SubmodelBundle) -> None:
    """Raise WireError unless model, plan, stages, labels and input contract fit one another."""
    model, plan = manifest.model, manifest.plan
    try:
        ModelContract(model, manifest.preprocessing, manifest.labels)
        depths = model.exits_within(plan.exit_depth)
    except (ConfigError, TypeError) as error:
        msg = f"the manifest contradicts itself: {error}"
        raise WireError(msg) from error
    if model.depth > MAX_DEPTH or parameter_count(model, plan.exit_depth) > MAX_PARAMETERS:
        msg = f"the manifest names a network of depth {model.depth}, more than a client can hold"
        raise WireError(msg)
    if (found := tuple(stage.exit_depth for stage in manifest.stages)) != depths:
        msg = f"the manifest's stages leave at {found}, the sub-model's exits are {depths}"
        raise WireError(msg)
