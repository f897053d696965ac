"""What stands behind a requirement is read from the ids that stand in tests, mutants, vectors and sources."""

from jobqueue_conformance.spec import data

from proof import evidence, matrix
from proof.evidence import Line
from proof.session import SuiteTest

BYTES = "server.remove.exact-bytes"
SOURCE = """
x = 1  # server.remove.exact-bytes, client.push.left; not server.remove
name = "server.remove.exact-bytes"
# server.remove.exact-bytes-too
"""


def test_lines_are_those_whose_comment_names_the_id() -> None:
    """A whole id in a comment counts; one in a string or with more behind it doesn't."""
    found = evidence.lines({"a.py": SOURCE})

    assert found[BYTES] == [
        Line("a.py", 2, "\n".join(SOURCE.splitlines()[1:4])),
    ]
    assert set(found) == {BYTES, "client.push.left", "server.remove.exact-bytes-too"}


def test_each_kind_of_evidence_is_gathered() -> None:
    """A test once for all of its cases, the mutants that die, the vectors, and lines of this repository."""
    tests = [
        SuiteTest(f"test_x.py::test_bytes[{case}]", (BYTES,), "Bytes\n    count.", "test_x.py", ())
        for case in "ab"
    ]

    found = evidence.gathered(tests, matrix.read())

    assert set(found) == set(data.requirements())
    assert found[BYTES].tests == {"test_x.py::test_bytes": "Bytes count."}
    assert {each.requirement for each in found[BYTES].mutants} == {BYTES}
    assert all(each.killed_by for each in found[BYTES].mutants)
    assert any(each.code.strip().startswith("#") for each in found[BYTES].lines)
    assert any(each.vectors for each in found.values())
