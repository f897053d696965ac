"""The crash table, read as data: which states a crash may leave, and what has to follow."""

import pytest
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.crash_table import Held, crash_row


@pytest.mark.parametrize("row", data.crash_table(), ids=lambda row: str(row["step"]))
def test_every_row_is_found(row: dict[str, object]) -> None:
    """A state that the table lists is found, with what has to follow from it."""
    places = row["state"]
    assert isinstance(places, list)
    published = row["published"]
    assert isinstance(published, int)
    held = Held(
        queue=places.count("queue"),
        in_process=places.count("in-process"),
        dead=places.count("dead"),
        published=published,
    )

    found = crash_row(held, 1, dead=row["message"] == "dead", dead_list=True)

    assert found is not None
    assert found["results_after"] == row["results_after"]
    assert found["message"] == row["message"]


@pytest.mark.parametrize(
    "held, dead",
    [
        (Held(queue=0, in_process=0, dead=0, published=0), False),
        (Held(queue=0, in_process=0, dead=0, published=0), True),
        (Held(queue=1, in_process=1, dead=0, published=0), False),
        (Held(queue=0, in_process=0, dead=1, published=0), False),
        (Held(queue=0, in_process=1, dead=0, published=1), True),
    ],
    ids=["lost", "not-buried", "copied", "buried-alive", "dead-and-answered"],
)
def test_what_must_not_happen_has_no_row(held: Held, *, dead: bool) -> None:
    """A state that no conforming server leaves isn't found."""
    assert crash_row(held, 1, dead=dead, dead_list=True) is None


def test_an_entry_may_be_returned_to_the_queue() -> None:
    """A job that was answered and is in the queue is to be answered again, as if on the list."""
    answered = crash_row(Held(1, 0, 0, published=1), 1, dead=False, dead_list=False)
    two_copies = crash_row(Held(1, 1, 0, published=0), 2, dead=False, dead_list=False)

    assert answered is not None
    assert answered["step"] == "published"
    assert two_copies is not None
    assert two_copies["step"] == "claimed"


def test_without_a_dead_list_a_dead_message_is_gone() -> None:
    """Where no dead list is kept, nothing is what has to be left."""
    row = crash_row(Held(0, 0, 0, published=0), 1, dead=True, dead_list=False)

    assert row is not None
    assert row["results_after"] == {"min": 0, "max": 0}


@pytest.mark.parametrize(
    "held, lost",
    [
        (Held(0, 0, 0, 0), True),
        (Held(0, 0, 0, 1), False),
        (Held(0, 0, 1, 0), False),
        (Held(1, 0, 0, 0), False),
    ],
)
def test_lost_is_nowhere_and_never_answered(held: Held, *, lost: bool) -> None:
    """A message is lost if no list holds it and no result was published."""
    assert held.lost is lost
