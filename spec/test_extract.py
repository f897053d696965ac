"""Shows each gate of `extract.py` failing on a small text, and the real text passing them all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import extract
import pytest

TEXT = """\
# A protocol, version 2.0

| feature | since | class | ids | what it adds |
| --- | --- | --- | --- | --- |
| `recovery` | 2.0 | server | `server.recovery.*` | nothing is lost |

## 4. Messages

<!-- errors: generated -->
<!-- end -->

### 4.1 Result

**[server.result.form]** The server MUST publish
a result.
  Why: somebody
waits.

**[server.recovery.first]** The server SHOULD NOT wait.

<!-- crash-table: generated -->
<!-- end -->

| requirement | why no black-box test sees it |
| --- | --- |
| `server.recovery.first` | nobody can look |
"""
ERROR = {
    "code": "lost",
    "where": "client",
    "meaning": "It is lost.",
    "may_have_run": True,
    "requirement": "server.result.form",
}
ROW = {
    "step": "removed",
    "state": [],
    "restart": "nothing",
    "runs": {"min": 1, "max": 2},
    "client": "one result",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the sources of a small protocol."""
    (tmp_path / "protocol.md").write_text(TEXT, "utf-8")
    (tmp_path / "errors.json").write_text(json.dumps({"errors": [ERROR]}), "utf-8")
    (tmp_path / "crash-table.json").write_text(json.dumps({"rows": [ROW]}), "utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status of the script in a folder, and what it says."""
    said: list[str] = []
    status = extract.main([*arguments, "--folder", str(folder)], said.append)
    return status, "".join(said)


def test_the_extract_of_this_tree_is_fresh() -> None:
    """What is committed is what the text and the registries say."""
    assert run(extract.SPEC, "--check") == (0, ""), "run `python spec/extract.py`"


def test_requirements_are_extracted(folder: Path) -> None:
    """The extract holds all that tests, reports and gates ask of a requirement."""
    status, said = run(folder)

    extracted = json.loads((folder / "requirements" / "2.0.json").read_text("utf-8"))
    sentence = "The server MUST publish a result."
    assert (status, said) == (0, ""), "the text is in order"
    assert extracted["spec"] == "2.0", "the version stands in the title"
    assert extracted["requirements"] == [
        {
            "id": "server.result.form",
            "keyword": "MUST",
            "class": "server",
            "feature": None,
            "section": "4.1 Result",
            "text": sentence,
            "why": "somebody waits.",
            "hash": hashlib.sha256(sentence.encode()).hexdigest(),
            "untested": None,
        },
        {
            "id": "server.recovery.first",
            "keyword": "SHOULD NOT",
            "class": "server",
            "feature": "recovery",
            "section": "4.1 Result",
            "text": "The server SHOULD NOT wait.",
            "why": None,
            "hash": hashlib.sha256(b"The server SHOULD NOT wait.").hexdigest(),
            "untested": "nobody can look",
        },
    ], "every requirement is there, in the order of the text"


def test_registries_are_rendered(folder: Path) -> None:
    """The tables of errors and crashes stand in their places, and a second run changes nothing."""
    run(folder)
    text = (folder / "protocol.md").read_text("utf-8")
    run(folder)

    error = "| `lost` | in the client only | It is lost. | yes | `server.result.form` |"
    assert error in text, "the error is a row"
    assert "| `removed` | gone | nothing | 1 to 2 | one result |" in text, "the step is a row"
    assert (folder / "protocol.md").read_text("utf-8") == text, "rendering twice is rendering once"


@pytest.mark.parametrize("source", ["protocol.md", "errors.json", "crash-table.json"])
def test_a_stale_extract_fails(folder: Path, source: str) -> None:
    """A source that was changed without running the script fails the check."""
    run(folder)
    text = (folder / source).read_text("utf-8")
    for before, after in (
        ("publish", "send"),
        ("It is lost", "It is gone"),
        ("one result", "none"),
    ):
        text = text.replace(before, after)
    (folder / source).write_text(text, "utf-8")
    extracted = (folder / "requirements" / "2.0.json").read_text("utf-8")

    status, said = run(folder, "--check")

    assert status == 1, f"a changed {source} is noticed"
    assert "is stale" in said, f"the remedy is named, got: {said}"
    assert (folder / source).read_text("utf-8") == text, "the check leaves the sources alone"
    assert (folder / "requirements" / "2.0.json").read_text("utf-8") == extracted, "and the extract"


def test_an_extract_that_is_missing_is_stale(folder: Path) -> None:
    """A version without its extract fails the check."""
    assert run(folder, "--check")[0] == 1, "nothing was extracted yet"


OUTSIDE = "stands outside a requirement"
REFUSED = [
    ("The server MUST go.", f"MUST {OUTSIDE}"),
    ("- it SHALL NOT go", f"SHALL NOT {OUTSIDE}"),
    ("| it SHOULD go |", f"SHOULD {OUTSIDE}"),
    ("```\nit MAY go\n```", f"MAY {OUTSIDE}"),
    ("## It is REQUIRED", f"REQUIRED {OUTSIDE}"),
    ("It is NOT RECOMMENDED.", f"NOT RECOMMENDED {OUTSIDE}"),
    ("It is OPTIONAL.", f"OPTIONAL {OUTSIDE}"),
    ("**[server.a.b]** It MUST go.\n  Why: it MAY.", f"MAY {OUTSIDE}, in the reason"),
    ("**[server.a.b]** It MUST go. It stays.", "'server.a.b' is not one sentence"),
    ("**[server.a.b]** It MUST go", "'server.a.b' is not one sentence"),
    ("**[server.a.b]** It MUST go and MAY stay.", "'server.a.b' has 2 keywords"),
    ("**[server.a.b]** It goes.", "'server.a.b' has 0 keywords"),
    ("**[server.result.form]** It MUST go.", "'server.result.form' is used twice"),
    ("**[broker.a.b]** It MUST go.", "the id 'broker.a.b' is not of the form"),
    ("**[server.a]** It MUST go.", "the id 'server.a' is not of the form"),
    ("**[server.a.B]** It MUST go.", "the id 'server.a.B' is not of the form"),
    ("**[server.a.b.c]** It MUST go.", "the id 'server.a.b.c' is not of the form"),
    ("Also **[server.a.b]** goes.", "a requirement doesn't begin its paragraph"),
    ("**[server.a.b]** It MUST go\n**[server.a.c]** there.", "another requirement stands in"),
]


@pytest.mark.parametrize("paragraph, fault", REFUSED)
def test_a_bad_paragraph_is_refused(folder: Path, paragraph: str, fault: str) -> None:
    """A binding sentence that could be missed or misread is refused, and its line is named."""
    run(folder)
    text = (folder / "protocol.md").read_text("utf-8")
    (folder / "protocol.md").write_text(f"{text}\n{paragraph}\n", "utf-8")
    extracted = (folder / "requirements" / "2.0.json").read_text("utf-8")

    status, said = run(folder)

    assert status == 1, f"refused: {paragraph}"
    assert fault in said, f"expected {fault}, got {said}"
    assert f"line {len(text.splitlines()) + 2}: " in said, f"the line is named, got {said}"
    assert (folder / "requirements" / "2.0.json").read_text("utf-8") == extracted, (
        "nothing is written"
    )


@pytest.mark.parametrize(
    "before, after, fault",
    [
        (
            "`server.recovery.first` |",
            "`server.result.gone` |",
            "'server.result.gone' is not a requirement",
        ),
        (
            "server.recovery.first]",
            "server.rescue.first]",
            "the feature 'recovery' has no requirement",
        ),
        ("version 2.0", "second version", "the title doesn't end in 'version N.N'"),
        ("<!-- errors: generated -->", "", "'<!-- errors: … --> … <!-- end -->' occurs 0 times"),
        ("| requirement | why", "| requirement | reason why", "the table '| requirement | why"),
    ],
)
def test_a_broken_frame_is_refused(folder: Path, before: str, after: str, fault: str) -> None:
    """A table or a place that the script depends on can't get lost."""
    (folder / "protocol.md").write_text(TEXT.replace(before, after), "utf-8")

    status, said = run(folder)

    assert status == 1, f"refused: {after}"
    assert fault in said, f"expected {fault}, got {said}"


def without_requirement(errors: list[dict[str, Any]]) -> None:
    """Let the error name a requirement that isn't there."""
    errors[0]["requirement"] = "server.result.gone"


def registered_twice(errors: list[dict[str, Any]]) -> None:
    """Let one code be registered twice."""
    errors.append(errors[0])


@pytest.mark.parametrize(
    "change, fault",
    [
        (without_requirement, "the error code 'lost' names an unknown 'server.result.gone'"),
        (registered_twice, "the error code 'lost' is registered twice"),
    ],
)
def test_a_bad_registry_is_refused(
    folder: Path, change: Callable[[list[dict[str, Any]]], None], fault: str
) -> None:
    """The registry of errors stays in step with the requirements."""
    errors = [dict(ERROR)]
    change(errors)
    (folder / "errors.json").write_text(json.dumps({"errors": errors}), "utf-8")

    status, said = run(folder)

    assert status == 1, "refused"
    assert fault in said, f"expected {fault}, got {said}"


@pytest.mark.parametrize("after", ["The server MUST publish two results.", ""])
def test_an_older_version_is_frozen(folder: Path, after: str) -> None:
    """A later version rewords and removes no requirement of an earlier one."""
    run(folder)
    reworded = TEXT.replace("version 2.0", "version 2.1")
    if after:
        reworded = reworded.replace("The server MUST publish\na result.", after)
    else:
        reworded = reworded.replace("server.result.form", "server.result.shape")
        errors = {"errors": [{**ERROR, "requirement": "server.result.shape"}]}
        (folder / "errors.json").write_text(json.dumps(errors), "utf-8")
    (folder / "protocol.md").write_text(reworded, "utf-8")

    status, said = run(folder)

    assert status == 1, "refused"
    assert "'server.result.form' differs from version 2.0, which is released" in said, f"got {said}"


def added(to: str, keyword: str, since: str) -> str:
    """The text of a later version, with one more feature and a requirement of it."""
    row = "| `recovery` | 2.0 | server | `server.recovery.*` | nothing is lost |\n"
    more = f"| `more` | {since} | server | `server.more.*` | more |\n"
    text = TEXT.replace("version 2.0", f"version {to}").replace(row, row + more)
    return f"{text}\n**[server.more.results]** The server {keyword} publish more.\n"


@pytest.mark.parametrize(
    "later, fault",
    [
        (
            added(to="2.1", keyword="MUST", since="2.0"),
            "'server.more.results' binds what conforms to version 2.0, which is released",
        ),
        (
            TEXT.replace("version 2.0", "version 2.1")
            + "\n**[server.result.more]** The server MUST NOT publish more.\n",
            "'server.result.more' binds what conforms to version 2.0, which is released",
        ),
        (
            added(to="2.9", keyword="MUST", since="2.10"),
            "the feature 'more' is of version 2.10, which comes after 2.9",
        ),
    ],
)
def test_a_later_version_binds_nothing_older(folder: Path, later: str, fault: str) -> None:
    """What a later version requires belongs to a feature that no earlier version has."""
    run(folder)
    (folder / "protocol.md").write_text(later, "utf-8")

    status, said = run(folder)

    assert status == 1, "refused"
    assert fault in said, f"got {said}"


def test_a_later_version_may_recommend(folder: Path) -> None:
    """A SHOULD binds nobody, so a later version may add it to what is there."""
    run(folder)
    later = added(to="2.1", keyword="SHOULD", since="2.0")
    (folder / "protocol.md").write_text(later, "utf-8")

    status, said = run(folder)

    assert (status, said) == (0, "")


def test_a_later_version_may_add(folder: Path) -> None:
    """A requirement that no earlier version has is not a fault, and the earlier extract stays."""
    run(folder)
    earlier = (folder / "requirements" / "2.0.json").read_text("utf-8")
    (folder / "protocol.md").write_text(added(to="2.1", keyword="MUST", since="2.1"), "utf-8")

    status, said = run(folder)

    extracted = json.loads((folder / "requirements" / "2.1.json").read_text("utf-8"))
    assert (status, said) == (0, ""), "adding is allowed"
    assert len(extracted["requirements"]) == 3, "the new requirement is extracted"
    assert (folder / "requirements" / "2.0.json").read_text("utf-8") == earlier, "2.0 is untouched"
