"""Which edits are drawn, by what they are known, and what is said of those that survive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mutation import sample, survivors
from mutation.trial import Verdict

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "def f(a):\n    if a < 1:\n        g(a)\n    return a + 2\n"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of one module that is judged, and two that aren't."""
    (tmp_path / "cli").mkdir()
    for name in ("core.py", "admin.py", "cli/run.py"):
        (tmp_path / name).write_text(SOURCE, encoding="utf-8")
    return tmp_path


def names(library: Path, seed: int) -> list[str]:
    """What a seed draws."""
    return [each.name for each in sample.drawn(sample.possible(library), seed, library)]


def test_what_the_suite_cannot_judge_is_not_edited(library: Path) -> None:
    """The terminal's commands are left out, and nothing else is."""
    assert {each.file for each in sample.possible(library)} == {"core.py"}


def test_a_seed_repeats_its_order_and_another_has_another(library: Path) -> None:
    """Every edit is drawn once, in an order that only the seed decides."""
    assert names(library, 1) == names(library, 1)
    assert names(library, 1) != names(library, 2)
    assert sorted(names(library, 1)) == sorted(names(library, 2))


def test_a_change_elsewhere_leaves_names_and_order(library: Path) -> None:
    """Lines that are added above change no edit's name, so a sample stays almost the same."""
    before = names(library, 1)
    (library / "core.py").write_text("import a\n\n\n" + SOURCE, encoding="utf-8")
    assert names(library, 1) == before


def test_edits_that_look_the_same_have_names_of_their_own(library: Path) -> None:
    """Two equal lines of one function are two mutants with one key."""
    (library / "core.py").write_text("def f():\n    g()\n    g()\n", encoding="utf-8")
    one, other = sample.possible(library)
    assert one.key == other.key
    assert one.name != other.name


def test_what_does_not_compile_is_not_drawn(library: Path) -> None:
    """An edit that isn't a valid program isn't a mutant."""
    (library / "core.py").write_text("f(x for x in y), g(a, b=1)\nh(a, k(*c))\n", encoding="utf-8")
    for each in sample.drawn(sample.possible(library), 1, library):
        compile(each.edit.apply((library / "core.py").read_bytes()), "mutant", "exec")
    assert not sample.compiles(b"f(")


def test_every_survivor_that_is_explained_can_still_be_made() -> None:
    """survivors.toml holds known words, and only edits of the code as it is."""
    words = survivors.explained(survivors.EXPLAINED.read_text(encoding="utf-8"))
    assert survivors.complaints(words, {each.key for each in sample.possible()}) == []


def test_a_stale_or_empty_explanation_is_noticed() -> None:
    """A word that isn't one of the four, and an edit that can't be made any more, are complaints."""
    key = ("core.py", "f", "if a < 1:", "if a <= 1:")
    assert survivors.complaints({key: "equivalent"}, {key}) == []
    assert "stale" in survivors.complaints({key: "gap"}, set())[0]
    assert "isn't one of" in survivors.complaints({key: "whatever"}, {key})[0]


def test_an_entry_is_read_back_as_it_was_written() -> None:
    """What is proposed for survivors.toml is known again, whatever the lines hold."""
    key = ("core.py", "f", 'g("a\\n",\nb)', "pass")
    assert survivors.explained(survivors.entry(key)) == {key: ""}


def test_who_survives_for_good_is_spared(library: Path) -> None:
    """A gap, and what nobody has explained yet, is tried again: a test may have been written meanwhile."""
    first, second, third, *_ = sample.possible(library)
    words = {first.key: "equivalent", second.key: "gap"}
    assert survivors.spared([first, second, third], words) == [first]


def test_figures_count_the_dead_and_what_is_said_of_the_others(library: Path) -> None:
    """The dead, the unknown, and survivors by their word; the page shows the share of those judged."""
    first, second, third, fourth, fifth, *_ = sample.possible(library)
    verdicts = [
        Verdict(first, "killed"),
        Verdict(second, "survived"),
        Verdict(third, "survived"),
        Verdict(fourth, "unknown"),
        Verdict(fifth, "refused"),
    ]
    figures = survivors.figures(verdicts, {second.key: "equivalent"})
    assert [figures[how] for how in ("mutants", "killed", "refused", "unknown")] == [5, 1, 1, 1]
    assert figures["survived"]["equivalent"] == figures["survived"]["unexplained"] == 1
    page = survivors.render(figures | {"date": "2026-11-26", "commit": "abc", "seed": 1})
    assert "**2 of 4 (50 %) died**" in page


def test_the_readme_shows_the_last_sample() -> None:
    """What conformance/README.md says of a sample is what the JSON holds, or that there is none."""
    page = survivors.README.read_text(encoding="utf-8")
    assert survivors.with_sample(page, survivors.published()) == page


def test_a_page_without_a_place_for_the_sample_is_refused() -> None:
    """A mark that was lost doesn't leave the old figures standing."""
    with pytest.raises(ValueError, match="no place"):
        survivors.with_sample(f"{survivors.BEGIN}figures", None)
