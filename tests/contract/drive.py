"""Drives one task from connections to delete with a client that was generated from the OpenAPI document.

Reads from its environment: BASE, TIDB_PORT, MARIADB_PORT, KAFKA, TOPIC, TIDB_TZ. It knows paths and fields only by the names
that the generator made of the document. The rows are the business of the test that calls it (tests/contract.rs).
"""

import os
import time

from tidegate_client import Client
from tidegate_client.api.connections import delete_connection, list_connections, put_connection
from tidegate_client.api.events import list_events
from tidegate_client.api.spec import get_spec, patch_spec, run_plan, run_precheck
from tidegate_client.api.tasks import (
    create_task, delete_task, get_summary, get_task, list_tasks, pause_task, resume_task, start_task, stop_task,
)
from tidegate_client.models import (
    KafkaConnectionInput, MysqlConnectionInput, Phase, Problem, ProblemCode, Spec, Status,
)

client = Client(base_url=os.environ["BASE"], raise_on_unexpected_status=True, timeout=60)


def good(answer):
    assert not isinstance(answer, Problem), answer
    assert answer is not None
    return answer


def until(what, look):
    for _ in range(1200):
        answer = good(get_task.sync("generated", client=client))
        if look(answer):
            return answer
        assert answer.status != Status.FAILED, answer.last_error
        time.sleep(0.1)
    raise AssertionError(f"the task never became {what}: {answer}")


def mysql(kind, port):
    return MysqlConnectionInput.from_dict({"kind": kind, "host": "127.0.0.1", "port": int(os.environ[port]), "user": "root"})


kafka = KafkaConnectionInput.from_dict({"kind": "kafka", "brokers": [os.environ["KAFKA"]]})
for name, body in {
    "gen-tidb": mysql("tidb", "TIDB_PORT"),
    "gen-kafka": kafka,
    "gen-target": mysql("mysql", "MARIADB_PORT"),
}.items():
    assert good(put_connection.sync(name, client=client, body=body)).name == name
assert [item.name for item in good(list_connections.sync(client=client)).items] == ["gen-kafka", "gen-target", "gen-tidb"]

spec = Spec.from_dict({
    "name": "generated",
    "source": {
        "tidb": "gen-tidb", "kafka": "gen-kafka", "topic": os.environ["TOPIC"], "time_zone": os.environ["TIDB_TZ"],
    },
    "target": "gen-target",
    "objects": {"include": ["clients.*"], "schemas": {"clients": {"target": "clients_copy"}}},
})
refused = create_task.sync(client=client, body=Spec.from_dict({**spec.to_dict(), "target": "no-such"}))
assert isinstance(refused, Problem) and refused.code == ProblemCode.INVALID_BODY, refused
assert [error.pointer for error in refused.errors] == ["/target"], refused
created = good(create_task.sync(client=client, body=spec))
assert created.status == Status.CREATED and created.effects
report = good(run_precheck.sync("generated", client=client))
warnings = [item.id for item in report.items if item.outcome.value == "warn"]
assert not [item for item in report.items if item.outcome.value == "fail"], report
good(patch_spec.sync("generated", client=client, body={"waivers": warnings}))
assert good(get_spec.sync("generated", client=client)).waivers == warnings
assert [table.target for table in good(run_plan.sync("generated", client=client)).tables] == ["clients_copy.items"]

good(start_task.sync("generated", client=client, wait_ms=30000))
until("incremental", lambda task: task.phase == Phase.INCREMENTAL and task.watermark)
assert good(pause_task.sync("generated", client=client, wait_ms=30000)).status == Status.PAUSED
assert good(resume_task.sync("generated", client=client, wait_ms=30000)).status == Status.RUNNING
task = until("complete", lambda task: task.progress and task.lag_ms is not None)
assert task.checkpoint.topic == os.environ["TOPIC"]
assert good(get_summary.sync(client=client)).total == 1
assert [item.name for item in good(list_tasks.sync(client=client, status=Status.RUNNING)).items] == ["generated"]
print("READY", flush=True)

# The test has written more rows by now and has seen them arrive.
input()
assert good(stop_task.sync("generated", client=client, wait_ms=30000)).status == Status.STOPPED
messages = [event.message for event in good(list_events.sync(client=client, limit=500)).items]
assert {"task generated created", "start generated", "pause generated", "stop generated"} <= set(messages), messages
delete_task.sync("generated", client=client)
assert good(list_tasks.sync(client=client)).items == []
for name in ("gen-tidb", "gen-kafka", "gen-target"):
    delete_connection.sync(name, client=client)
assert good(list_connections.sync(client=client)).items == []
print("DONE", flush=True)
