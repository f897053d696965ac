"""The language-neutral vectors of fixtures/, against the reference's own functions."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from jobqueue.errors import InvalidMessage, JobError
from jobqueue.protocol import keys, messages
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead, Result, Run

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.fixture(autouse=True, params=["json", "msgspec"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every vector is read by the standard library, and by msgspec."""
    parse = messages.parse_by_json if request.param == "json" else messages.fastest_parser()
    assert (parse is messages.parse_by_json) == (request.param == "json")
    monkeypatch.setattr(messages, "_parse", parse)


def vectors(name: str) -> list[Any]:
    """The vectors of one file, as parameters of a test."""
    file = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    assert len(file["vectors"]) == file["count"], f"expected {file['count']} vectors in {name}"
    return [pytest.param(vector, id=vector["id"]) for vector in file["vectors"]]


def message(parts: list[dict[str, Any]], job_id: str = "") -> bytes:
    """The bytes that a vector's parts make."""
    whole = b""
    for part in parts:
        if "text" in part:
            piece = part["text"].encode()
        elif "base64" in part:
            piece = base64.b64decode(part["base64"])
        else:
            piece = json.dumps(job_id)[1:-1].encode()
        whole += piece * part.get("repeat", 1)
    return whole


def value(of: Any) -> Any:
    """A JSON value that compares as JSON values do: 1 is 1.0, and true isn't 1."""
    if isinstance(of, bool):
        return ("boolean", of)
    if isinstance(of, int):
        return float(of)
    if isinstance(of, list):
        return [value(member) for member in of]
    if isinstance(of, dict):
        return {name: value(member) for name, member in of.items()}
    return of


@pytest.mark.parametrize("vector", vectors("jobs"))
def test_a_message_comes_to_what_its_vector_says(vector: dict[str, Any]) -> None:
    """The table of section 7.2: run, answered with a code, or dead."""
    sent = message(vector["message"])

    decision = messages.decide(sent, {"echo", "fail"})

    assert decision.message == sent
    match vector["outcome"]:
        case "run":
            assert isinstance(decision, Run), f"{vector['why']} Expected a run, got {decision!r}"
            assert (decision.channel.decode(), decision.id) == (vector["channel"], vector["job_id"])
            assert decision.method == vector["method"]
            assert value(decision.parameters) == value(vector["parameters"])
        case "dead":
            assert isinstance(decision, Dead), f"{vector['why']} Expected dead, got {decision!r}"
        case "either":
            answer = messages.succeed(decision, None) if isinstance(decision, Run) else decision
            assert isinstance(answer, Dead) or json.loads(answer.result)["id"]
        case code:
            assert isinstance(decision, Answer), (
                f"{vector['why']} Expected {code}, got {decision!r}"
            )
            assert (decision.channel.decode(), decision.id) == (vector["channel"], vector["job_id"])
            assert json.loads(decision.result)["error"]["code"] == code


@pytest.mark.parametrize("vector", vectors("results"))
def test_a_result_settles_as_its_vector_says(vector: dict[str, Any]) -> None:
    """client.settle.value, client.settle.error, client.ignore.malformed: as the vector says."""
    waits = "the job that waits"
    arrived = message(vector["message"], waits)

    try:
        result = messages.decode_result(arrived)
    except InvalidMessage:
        result = Result("", None, None)

    match vector["outcome"]:
        case "value":
            assert (result.id, result.error) == (waits, None)
            assert value(result.value) == value(vector["value"])
        case "error":
            assert result.id == waits
            assert isinstance(result.error, JobError)
            assert result.error.code == vector["error"]["code"]
            assert result.error.message == vector["error"]["message"]
        case "ignored":
            assert result.id != waits, f"{vector['why']} Expected it to be ignored, got {result!r}"
        case outcome:
            assert outcome == "either"


@pytest.mark.parametrize("vector", vectors("values"))
def test_a_value_goes_round_unchanged(vector: dict[str, Any]) -> None:
    """client.job.parameters, server.result.value, client.settle.value: what goes in comes out."""
    pushed = messages.encode_job("echo", vector["value"], "c", "1")
    job = messages.decide(pushed, {"echo"})
    assert isinstance(job, Run)
    settled = messages.decode_result(messages.succeed(job, job.parameters).result)

    assert value(settled.value) == value(vector["value"])
    assert settled.error is None


@pytest.mark.parametrize("vector", vectors("ids"))
def test_an_id_comes_back_as_the_same_string(vector: dict[str, Any]) -> None:
    """server.result.id, client.settle.result: ids are compared character for character."""
    job = messages.decide(messages.encode_job("echo", None, "c", vector["job_id"]), {"echo"})
    assert isinstance(job, Run)

    assert messages.decode_result(messages.succeed(job, None).result).id == vector["job_id"]


@pytest.mark.parametrize("vector", vectors("keys"))
def test_keys_follow_from_the_queue(vector: dict[str, Any]) -> None:
    """server.list.name, client.channel.name: all names begin with the queue's."""
    lists = Keys.of(vector["queue"], vector.get("processor", "any"), vector.get("configured"))

    assert lists.queue.decode() == vector["queue"]
    assert lists.in_process.decode() == vector["in_process"]
    assert lists.dead.decode() == vector["dead"]
    assert keys.results(vector["queue"], "uuid") == f"{vector['channel_prefix']}uuid"
