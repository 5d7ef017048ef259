import logging

from flows.local import is_prefects


def test_prefects_own_logs_stay_out_of_the_terminal() -> None:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    queues = [EventsWorker.__name__, APILogWorker.__name__]  # "Still processing items" while a command ends
    for name in ("prefect.engine", "prefect.flow_runs", *queues):
        assert is_prefects(logging.makeLogRecord({"name": name})), name
    for name in ("flows.dvc_lock", "tasks.engine.runner", "prefecture"):
        assert not is_prefects(logging.makeLogRecord({"name": name})), name
