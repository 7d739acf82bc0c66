"""From settings to a running client: identity, data, connection, signals."""

from __future__ import annotations

from devices.probe import probe
from edge_client import data, enrollment, folder
from edge_client.agent import Agent
from edge_client.client import Client
from edge_client.config import EdgeConfig
from edge_client.session import Patience, Session
from edge_client.stopping import StopFlag


def serve(config: EdgeConfig) -> None:
    """Be the resident client until stopped or finished; raises what ended it otherwise."""
    enrolled = enrollment.load(config.state)
    own = data.load(config.data)
    folder.recover(config.state / "submodel")
    stop = StopFlag()
    stop.listen()
    patience = Patience(config.retry, stop.wait, ends_on_refusal=config.until_finished)
    session = Session(enrolled.address, enrolled.identity, config.deadlines, patience)
    client = Client(config, enrolled.device_id, enrolled.manifest_key, own, session, stop.check)
    try:
        profile = probe(enrolled.board, storage=config.state, train_samples=len(own.train))
        Agent(client, profile, stop).run()
    finally:
        session.close()
        stop.close()
