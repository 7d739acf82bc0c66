"""From settings to a running client: identity, data, connection, signals."""

from __future__ import annotations

from devices.tree import Tree
from edge_client import enrollment, folder, memory
from edge_client.agent import Agent
from edge_client.client import Client
from edge_client.config import EdgeConfig
from edge_client.data import StoredData
from edge_client.heart import Heart
from edge_client.patience import until_the_clock_is_set
from edge_client.profiling import Profiler
from edge_client.renewal import Renewal
from edge_client.session import Patience, Session
from edge_client.situation import Situation
from edge_client.stopping import StopFlag
from edge_client.telemetry import Telemetry
from reefleet import notify


def serve(config: EdgeConfig) -> None:
    """Be the resident client until stopped or finished; raises what ended it otherwise."""
    enrolled = enrollment.load(config.state)
    own = StoredData(config.data, config.state / "data.sound")
    folder.recover(config.state / "submodel")
    memory.keep_freed()
    heart = Heart()
    stop = StopFlag(heart.beat)
    stop.listen()
    pause = until_the_clock_is_set(stop.wait)
    patience = Patience(config.retry, pause, ends_on_refusal=config.until_finished)
    session = Session(enrolled.address, enrolled.identity, config.deadlines, patience)
    client = Client(config, enrolled.device_id, enrolled.manifest_key, own, session, stop.check)
    telemetry = Telemetry(
        enrolled.device_id,
        lambda: enrollment.load(config.state).identity,  # renewal may have changed it
        lambda: session.activity.vitals(Tree()),
        stop.nudge,
    )
    goes_on = False
    try:
        profiler = Profiler(
            config.state,
            enrolled.board,
            own.train_samples,
            lambda: enrollment.load(config.state).identity.key,  # renewal may have changed it
            config.threads,
            config.benchmark_s,
            session.report_profile,
        )
        renewal = Renewal(config.state, enrolled, session)
        session.on_broker = telemetry.follow
        session.situation = Situation().look

        def upkeep() -> None:
            renewal.renew_if_due()
            telemetry.refresh()
            profiler.report_if_changed()

        notify.tell(notify.READY)
        goes_on = Agent(client, profiler.first(), stop, upkeep, session.activity).run()
    finally:
        if not goes_on:
            notify.tell(notify.STOPPING)
        telemetry.close()
        session.close()
        stop.close()
    if goes_on:
        memory.start_anew()
