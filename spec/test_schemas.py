"""Checks the schemas themselves, what the repository describes by them, and what they refuse."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

ROOT = Path(__file__).parents[1]
SCHEMAS = sorted((ROOT / "schemas").glob("*.json"))
DESCRIBED = {
    "spec/errors.json": "errors",
    "spec/requirements/1.0.json": "requirements",
    "spec/requirements/1.1.json": "requirements",
    "spec/crash-table.json": "crash-table",
    **{f"fixtures/{path.name}": "fixture" for path in (ROOT / "fixtures").glob("*.json")},
}


def load(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


def validator(name: str) -> Draft202012Validator:
    """The validator of a schema."""
    return Draft202012Validator(load(ROOT / "schemas" / f"{name}.schema.json"))


def properties(schema: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every property that a schema defines, with its path; conditions only refer to them."""
    if isinstance(schema, list):
        for number, element in enumerate(schema):
            yield from properties(element, f"{at}/{number}")
    elif isinstance(schema, dict):
        for name, member in schema.items():
            if name == "properties":
                yield from ((f"{at}/{key}", value) for key, value in member.items())
            if name not in {"if", "then", "else", "oneOf", "anyOf", "allOf", "examples"}:
                yield from properties(member, f"{at}/{name}")


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_schema_is_a_schema(path: Path) -> None:
    """A schema obeys draft 2020-12, and its id follows from its file's name."""
    schema = load(path)

    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"], "the draft is named"
    assert schema["$id"] == f"urn:jobqueue:1.0:{path.name.removesuffix('.schema.json')}", "so is it"
    assert schema["title"], "it has a title"


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_property_is_described(path: Path) -> None:
    """A property says what it is, in a sentence."""
    schema = load(path)

    found = dict(properties(schema))
    undescribed = [
        at for at, value in found.items() if not value.get("description", "").endswith(".")
    ]

    assert found, f"{path.name} defines properties"
    assert schema["description"].endswith("."), "the schema is described"
    assert not undescribed, f"{path.name} doesn't describe {undescribed}"


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    """A schema's examples are valid under it."""
    schema = load(path)

    for example in schema["examples"]:
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
        assert not errors, f"an example of {path.name}: {errors}"


@pytest.mark.parametrize("path, name", DESCRIBED.items())
def test_data_are_valid(path: str, name: str) -> None:
    """What the repository describes by a schema is valid under it, and names it to editors."""
    data = load(ROOT / path)

    errors = [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(data)]

    assert not errors, f"{path} breaks its schema: {errors}"
    schema = ((ROOT / path).parent / data["$schema"]).resolve()
    assert schema.name == f"{name}.schema.json", f"{path} names {schema}"
    assert schema in SCHEMAS, f"{path} names a schema that isn't there"


def test_every_schema_is_used_or_shown() -> None:
    """A schema describes files of the repository, or what its own examples show."""
    shown = {"job", "result", "driver-request", "driver-response"}
    shown |= {"implementation", "report", "site"}

    stems = {path.name.removesuffix(".schema.json") for path in SCHEMAS}

    assert stems == shown | set(DESCRIBED.values()), "none is forgotten"


MANIFEST = """
name = "mine"
spec = "1.0"
server = { command = ["./server"] }
features = { recovery = true }
"""
MISTAKES = [
    ('name = "mine"', "", r"\$: 'name' is a required property"),
    ('name = "mine"', 'name = " "', r"\$\.name: ' ' does not match"),
    ('spec = "1.0"', "spec = 1.0", r"\$\.spec: 1\.0 is not one of \['1\.0', '1\.1'\]"),
    ('spec = "1.0"', 'spec = "0.9"', r"\$\.spec: '0\.9' is not one of \['1\.0', '1\.1'\]"),
    ("server =", "sever =", r"'sever' was unexpected|'server' is a required property"),
    ("server =", "# server =", r"\$: 'server' is a required property"),
    ('["./server"]', '"./server"', r"\$\.server\.command: '\./server' is not of type 'array'"),
    ('["./server"]', "[]", r"\$\.server\.command: \[\] should be non-empty"),
    ("command =", "cmd =", r"\$\.server: .*('cmd' was unexpected|'command' is a required)"),
    ("recovery = true", "recover = true", r"\$\.features: .*'recover' was unexpected"),
    (
        "recovery = true",
        'recovery = "yes"',
        r"\$\.features\.recovery: 'yes' is not of type 'boolean'",
    ),
    ("features =", "feature =", r"\$: .*'feature' was unexpected"),
    (
        "features = { recovery = true }",
        '[[known-failures]]\nrequirement = "server.stop.drains"\ntests = ["*"]',
        r"\$\['known-failures'\]\[0\]: 'reason' is a required property",
    ),
    (
        "features = { recovery = true }",
        '[keys]\nin_process = "a"',
        r"\$\.keys: .*'in_process' was unexpected",
    ),
]


def test_manifest_is_valid() -> None:
    """The manifest in which the mistakes below are made is itself in order."""
    assert validator("implementation").is_valid(tomllib.loads(MANIFEST)), "the base is valid"


@pytest.mark.parametrize("right, wrong, message", MISTAKES)
def test_manifest_mistakes_are_told(right: str, wrong: str, message: str) -> None:
    """A mistake in a manifest is refused where it stands, in words that name it."""
    assert right in MANIFEST, "the mistake is made"
    manifest = tomllib.loads(MANIFEST.replace(right, wrong))

    error = best_match(validator("implementation").iter_errors(manifest))

    assert error is not None, f"refused: {wrong}"
    assert re.search(message, f"{error.json_path}: {error.message}"), f"got {error.message}"


LINES = [
    ("driver-request", {"seq": 1, "method": "echo", "parameters": None}, True),
    ("driver-request", {"seq": 1, "method": "echo"}, False),
    ("driver-request", {"seq": "1", "method": "echo", "parameters": 1}, False),
    ("driver-request", {"seq": 1, "method": "echo", "parameters": 1, "timeout": 1}, False),
    ("driver-request", {"seq": 1, "method": "echo", "parameters": 1, "timeout_ms": 0}, False),
    ("driver-response", {"seq": 1, "result": None, "took_ms": 3}, True),
    ("driver-response", {"seq": 1, "error": {"code": "a.b", "message": "", "data": None}}, True),
    ("driver-response", {"seq": 1}, False),
    ("driver-response", {"result": 1}, False),
    ("driver-response", {"seq": 1, "timeout": False}, False),
    ("driver-response", {"seq": 1, "result": 1, "timeout": True}, False),
    ("driver-response", {"seq": 1, "error": "failed"}, False),
    ("driver-response", {"seq": 1, "error": {"code": 404, "message": ""}}, False),
]


@pytest.mark.parametrize("name, line, valid", LINES)
def test_driver_lines(name: str, line: dict[str, Any], *, valid: bool) -> None:
    """A driver's lines are distinguished from similar ones."""
    assert validator(name).is_valid(line) is valid, f"{line} is{'' if valid else ' not'} a {name}"


def test_report_verdicts_are_one_list() -> None:
    """A report counts exactly the verdicts that it gives."""
    report = load(ROOT / "schemas" / "report.schema.json")

    totals = report["properties"]["totals"]

    verdicts = report["$defs"]["verdict"]["enum"]
    assert verdicts == list(totals["properties"]) == totals["required"], "the three lists agree"


def test_readme_lists_every_schema() -> None:
    """The README names each schema once, and says rightly which let unknown members pass."""
    text = (ROOT / "schemas" / "README.md").read_text("utf-8")

    listed = dict(re.findall(r"^\| \[`([a-z-]+)`\].* \| (yes|no) \|$", text, re.MULTILINE))

    schemas = {path.name.removesuffix(".schema.json"): load(path) for path in SCHEMAS}
    is_open = {
        n: "yes" if s.get("additionalProperties", True) else "no" for n, s in schemas.items()
    }
    assert listed == is_open, "the table says what the schemas say"
