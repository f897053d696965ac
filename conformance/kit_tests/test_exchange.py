"""What passed, as the steps of a diagram: who to whom, how far, and what the kit did to it."""

import pytest
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.events import (
    ASKED,
    CLOSED,
    COMMAND,
    CUT,
    HEARD,
    KIT,
    MESSAGE,
    OPENED,
    REPLY,
    STDIN,
    STDOUT,
    Event,
)
from jobqueue_conformance.proxy.exchange import exchange
from jobqueue_conformance.reports import diagram
from jobqueue_conformance.spec import data, redaction

PING = resp.command("PING")


def event(kind: str, frame: bytes, *, who: str = "server", fate: str = "") -> Event:
    """An event at the second 10."""
    return Event(10.0, who, 0 if who == KIT else 1, kind, frame, fate=fate)


@pytest.mark.parametrize(
    "kind, frame, fate, way",
    [
        (COMMAND, PING, "", ("server", "Redis")),
        (COMMAND, PING, "held", ("server", "proxy")),
        (COMMAND, PING, "lost", ("server", "proxy")),
        (COMMAND, PING, "held, then passed on", ("server", "Redis")),
        (COMMAND, PING, "reached Redis, unanswered", ("server", "Redis")),
        (REPLY, b"+OK\r\n", "", ("Redis", "server")),
        (REPLY, b"+OK\r\n", "lost", ("Redis", "proxy")),
        (MESSAGE, b"+OK\r\n", "", ("Redis", "server")),
        (OPENED, b"", "", ("server", "proxy")),
        (CUT, b"RST", "", ("proxy", "server")),
        (CLOSED, b"", "", ("proxy", "proxy")),
        (STDIN, b"{}", "", ("kit", "server")),
        (STDOUT, b"{}", "", ("server", "kit")),
    ],
)
def test_a_step_goes_as_far_as_it_came(
    kind: str, frame: bytes, fate: str, way: tuple[str, str]
) -> None:
    """What the kit held or lost ends at the proxy; all else goes the whole way."""
    [step] = exchange([event(kind, frame, fate=fate)], 10)["steps"]

    assert (step["from"], step["to"]) == way
    assert step.get("fate", "") == fate


def test_the_kit_has_a_lane_of_its_own() -> None:
    """What the kit asks and hears passes no proxy, and has no connection."""
    made = exchange([event(ASKED, PING, who=KIT), event(HEARD, b"+m\r\n", who=KIT)], 10)

    assert made["parties"] == ["proxy", "Redis", "kit"]
    assert [(each["from"], each["to"]) for each in made["steps"]] == [
        ("kit", "Redis"),
        ("Redis", "kit"),
    ]
    assert not any("connection" in each for each in made["steps"])


def test_the_last_steps_are_kept() -> None:
    """Of many steps the last count, at their times since the first of all; every program keeps its lane."""
    events = [Event(10.0 + n / 1000, f"server-{n % 2}", 1, COMMAND, PING) for n in range(10)]

    made = exchange(events, 3)

    assert [each["at_ms"] for each in made["steps"]] == [7.0, 8.0, 9.0]
    assert made["left_out"] == 7
    assert made["parties"] == ["server-0", "server-1", "proxy", "Redis", "kit"]


def test_an_exchange_has_the_form_of_its_schema() -> None:
    """Every kind of event is one that the report knows."""
    kinds = {COMMAND: PING, ASKED: PING, REPLY: b"+OK\r\n", MESSAGE: b"+m\r\n", HEARD: b"+m\r\n"}
    words = dict.fromkeys((OPENED, CLOSED, CUT, STDIN, STDOUT), b"words")
    made = exchange([event(kind, frame) for kind, frame in {**kinds, **words}.items()], 20)

    schema = data.validator("report").schema
    assert isinstance(schema, dict)
    data.validator("report").evolve(schema=schema["$defs"]["exchange"]).validate(made)
    known = schema["$defs"]["exchange"]["properties"]["steps"]["items"]["properties"]["kind"]
    assert {each["kind"] for each in made["steps"]} == set(known["enum"])


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:s3cret/1@127.0.0.1:6379/0 can't be reached",
        "rediss://:s3cret@host",
        "WRONGPASS s3cret",
        "AUTH default s3cr%65t",
        '{"password": "s3cret"}',
    ],
)
def test_no_password_is_left(text: str) -> None:
    """A password is hidden where its URL is known, in any spelling, and in every URL."""
    secrets = redaction.passwords(["redis://me:s3cr%65t@127.0.0.1:6379", "auto", "/usr/bin/redis"])

    shown = redaction.redacted({"output": [{"text": text}]}, secrets)["output"][0]["text"]

    assert "s3cr" not in shown
    assert "*****" in shown


def test_what_is_no_password_is_left() -> None:
    """A URL without a password stays as it is, and so does what isn't text."""
    kept = {"url": "redis://127.0.0.1:6379/0", "number": 7, "list": ["a", None, True]}

    assert redaction.redacted(kept, redaction.passwords(["redis://127.0.0.1"])) == kept


def test_the_kits_own_words_are_left() -> None:
    """A password that is a part of what the kit says of a step is hidden in the step's text alone."""
    step = {"kind": "reply", "fate": "held, then passed on", "text": "AUTH pass"}

    shown = redaction.redacted({"steps": [step]}, redaction.passwords(["redis://:pass@host"]))

    assert shown == {"steps": [step | {"text": f"AUTH {redaction.HIDDEN}"}]}


@pytest.mark.parametrize("fate", ["lost", "held, then passed on"])
@pytest.mark.parametrize("struck, begin", [(None, 60), (90, 60), (20, 16), (2, 0)])
def test_a_diagram_shows_its_end_and_where_a_fault_struck(
    struck: int | None, begin: int, fate: str
) -> None:
    """The last steps are shown at once, and all since the first that was hit; the rest is folded, not left out."""
    events = [event(COMMAND, PING, fate=fate if n == struck else "") for n in range(100)]

    drawn = diagram.drawn(exchange(events, 120), "FIN")

    assert len(drawn["earlier"]) == begin
    assert len(drawn["earlier"] + drawn["rows"]) == 100
    faults = {n: row["fault"] for n, row in enumerate(drawn["rows"], begin) if row["fault"]}
    assert faults == ({} if struck is None else {struck: "FIN"})
