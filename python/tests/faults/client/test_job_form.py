"""What a client pushes is JSON of the portable set, or a mistake of its caller before the push."""

import json
from typing import Any

import pytest
from redis import Redis

from tests.conftest import until
from tests.faults.caller import Caller

Failed = pytest.fail.Exception

NONCHARACTERS = ["\ufdd0", "\ufdef", "\uffff", "\U0010fffe"]

EQUAL_IN_JSON = {
    "1 and '1'": {1: "a", "1": "b"},
    "True and 'true'": {True: "a", "true": "b"},
    "None and 'null'": {None: "a", "null": "b"},
    "1.5 and '1.5'": {1.5: "a", "1.5": "b"},
    "nested": [{"x": [{False: 1, "false": 2}]}],
}


class Twice(dict[str, int]):
    """A mapping that names a member twice."""

    def items(self) -> Any:
        """Return the pairs."""
        return [("a", 1), ("a", 2)]


def pushed(caller: Caller, redis: Redis) -> list[Any]:
    """What a caller has pushed so far, oldest first, each object as the list of its pairs."""
    caller.run("last")
    until(lambda: b'"last"' in (redis.lindex("job-queue", 0) or b""), "the last job")
    messages: Any = redis.lrange("job-queue", 1, -1)
    return [json.loads(message, object_pairs_hook=list) for message in reversed(messages)]


def require_refused(caller: Caller, redis: Redis, method: Any, parameters: Any) -> None:
    """Show that the call is refused, and that neither it nor its companion is pushed."""
    with pytest.raises((TypeError, ValueError)):
        caller.run(method, parameters)
    with pytest.raises((TypeError, ValueError)):
        caller.run_many([("companion", 1), (method, parameters)])

    assert pushed(caller, redis) == []


@pytest.mark.parametrize("name", EQUAL_IN_JSON)
def test_keys_that_json_makes_equal(caller: Caller, redis: Redis, name: str) -> None:
    """client.job.form: a duplicate member is outside the portable set, so a ValueError."""
    require_refused(caller, redis, "echo", EQUAL_IN_JSON[name])


def test_a_mapping_that_names_a_member_twice(caller: Caller, redis: Redis) -> None:
    """client.job.form: whatever a mapping says, no member is pushed twice."""
    try:
        caller.run("echo", Twice(b=1))
    except ValueError:
        assert pushed(caller, redis) == []
        return
    (job,) = pushed(caller, redis)
    parameters = dict(job)["parameters"]
    assert len(parameters) == len(dict(parameters))


@pytest.mark.parametrize("text", NONCHARACTERS, ids=ascii)
@pytest.mark.parametrize("place", ["value", "key", "method"])
def test_noncharacters(caller: Caller, redis: Redis, text: str, place: str) -> None:
    """client.job.form: noncharacters are outside I-JSON, wherever they stand, so a ValueError."""
    method, parameters = {
        "value": ("echo", ["x", {"x": f"a{text}b"}]),
        "key": ("echo", {f"a{text}b": 1}),
        "method": (f"a{text}b", 1),
    }[place]
    require_refused(caller, redis, method, parameters)


@pytest.mark.parametrize("text", ["\ud800", "a\udc80b"], ids=ascii)
@pytest.mark.parametrize("place", ["value", "key", "method"])
def test_lone_surrogates(caller: Caller, redis: Redis, text: str, place: str) -> None:
    """client.job.form: lone surrogates are outside I-JSON, wherever they stand, so a ValueError."""
    method, parameters = {
        "value": ("echo", [text]),
        "key": ("echo", {text: 1}),
        "method": (text, 1),
    }[place]
    require_refused(caller, redis, method, parameters)


@pytest.mark.parametrize(
    "text", ["\ufdcf", "\ufdf0", "\ufffd", "\U0001f600", "\0", "\x7f", "\u2028"]
)
def test_what_only_looks_odd_is_pushed(caller: Caller, redis: Redis, text: str) -> None:
    """client.job.parameters: the neighbours of what is refused arrive unchanged."""
    caller.run(text, [text, {text: text}])

    (job,) = pushed(caller, redis)
    assert dict(job)["method"] == text
    assert dict(job)["parameters"] == [text, [(text, text)]]


@pytest.mark.parametrize(
    "wrong",
    [float("nan"), float("-inf"), 2**53, -(2**53), {1, 2}, b"bytes", object, {(1, 2): 3}, [1j]],
    ids=repr,
)
def test_what_json_doesnt_have(caller: Caller, redis: Redis, wrong: Any) -> None:
    """client.job.form: no number beyond the portable ones, and nothing that JSON has no word for."""
    require_refused(caller, redis, "echo", {"x": [wrong]})


@pytest.mark.parametrize("method", ["", None, 1, b"echo", ["echo"]])
def test_a_method_is_a_non_empty_string(caller: Caller, redis: Redis, method: Any) -> None:
    """client.job.form: any other is refused before anything is sent."""
    require_refused(caller, redis, method, None)


def test_a_cycle_is_refused(caller: Caller, redis: Redis) -> None:
    """client.job.form: parameters that hold themselves are a mistake of the caller."""
    endless: list[Any] = []
    endless.append(endless)
    require_refused(caller, redis, "echo", endless)


@pytest.mark.parametrize("depth", [33, 100_000])
def test_too_deep_a_nesting(caller: Caller, redis: Redis, depth: int) -> None:
    """client.job.form: 32 levels are portable; more are refused, whatever the number."""
    nested: list[Any] = []
    for _ in range(depth - 1):
        nested = [nested]
    require_refused(caller, redis, "echo", nested)


def test_no_calls_send_nothing(caller: Caller, redis: Redis) -> None:
    """`run_many([])` returns an empty list and sends no command; the next jobs are as usual."""
    caller.run("first")
    until(lambda: redis.llen("job-queue") == 1, "the first job")
    redis.config_resetstat()

    assert caller.run_many([]) == []
    assert caller.run_many(iter(())) == []

    assert [dict(job)["method"] for job in pushed(caller, redis)] == ["first"]
    assert redis.info("commandstats")["cmdstat_lpush"]["calls"] == 1
    assert not redis.info("errorstats")


def test_a_call_that_fails_while_it_is_listed_pushes_nothing(caller: Caller, redis: Redis) -> None:
    """The calls may come from a generator of the caller, whose own exception passes through."""

    def calls() -> Any:
        yield "echo", 1
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        caller.run_many(calls())

    assert pushed(caller, redis) == []
