"""The door to everything that needs arrays and graphs: doing what a task asks."""

from __future__ import annotations

from edge_client.client import Client
from edge_client.delivery import deliver
from edge_client.deploy import deploy
from edge_client.federate import federate
from edge_client.personalize import personalize
from edge_client.task import DEPLOY, FEDERATE, Task


def do(client: Client, task: Task) -> None:
    """Do a task and report it; raises as `federate`."""
    if task.kind == DEPLOY:
        deploy(client, task)
    elif task.kind == FEDERATE:
        deliver(client, federate(client, task))
    else:
        personalize(client, task)
