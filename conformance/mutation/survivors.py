"""What is said of the survivors, in a word each, and what is published of a sample."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mutation.sample import Key, Mutant
    from mutation.trial import Verdict

FOLDER = Path(__file__).parent
EXPLAINED = FOLDER / "survivors.toml"
SAMPLE = FOLDER / "sample.json"
README = FOLDER.parent / "README.md"
WORDS = {
    "equivalent": "does the same, whatever happens",
    "unspecified": "does something else that the spec allows, too",
    "library-only": "breaks a promise of the library that isn't the protocol's",
    "gap": "breaks the protocol, and no test notices yet",
}
FOR_GOOD = WORDS.keys() - {"gap"}  # what no test can kill, or should
BEGIN = "<!-- mutation: generated from mutation/sample.json -->\n"
END = "<!-- end -->\n"


def explained(text: str) -> dict[Key, str]:
    """The word for each survivor."""
    return {
        (each["file"], each["where"], each["was"], each["becomes"]): each["word"]
        for each in tomllib.loads(text).get("survivor", [])
    }


def spared(mutants: Iterable[Mutant], words: dict[Key, str]) -> list[Mutant]:
    """Those of which the last word is said: no test can kill them, or should."""
    return [each for each in mutants if words.get(each.key) in FOR_GOOD]


def complaints(words: dict[Key, str], possible: Collection[Key]) -> list[str]:
    """What is wrong with the explanations: words that say nothing, and edits that can't be made any more."""
    return [
        f"{key[0]}, {key[1]}: {fault}: {key[2]!r} becomes {key[3]!r}"
        for key, word in words.items()
        for fault in (
            *([f"{word!r} isn't one of {', '.join(WORDS)}"] if word not in WORDS else []),
            *(["stale, there is no such edit"] if key not in possible else []),
        )
    ]


def entry(key: Key) -> str:
    """What is to be written into the file, but for the word."""
    fields = zip(("file", "where", "was", "becomes"), key, strict=True)
    lines = [f"{name} = {_quoted(value)}" for name, value in fields]
    return "\n".join(["[[survivor]]", *lines, 'word = ""'])


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def figures(verdicts: Sequence[Verdict], words: dict[Key, str]) -> dict[str, Any]:
    """How many died, and what is said of the others."""
    how = Counter(each.how for each in verdicts)
    survived = [each.mutant.key for each in verdicts if each.how == "survived"]
    said = Counter(words.get(key, "unexplained") for key in survived)
    return {
        "mutants": len(verdicts),
        "killed": how["killed"],
        "refused": how["refused"],
        "unknown": how["unknown"],
        "survived": {word: said[word] for word in [*WORDS, "unexplained"]},
    }


def published() -> dict[str, Any] | None:
    """The last sample that was published, if any was."""
    return json.loads(SAMPLE.read_text(encoding="utf-8")) if SAMPLE.exists() else None


def render(sample: dict[str, Any] | None) -> str:
    """What the README says of a sample."""
    if sample is None:
        return "No sample has been published yet; `make nightly` publishes one of 200.\n"
    judged = sample["mutants"] - sample["unknown"]
    died = sample["killed"] + sample["refused"]
    rows = [
        ("killed", sample["killed"], "fails a test, twice"),
        ("refused", sample["refused"], "can't be tested: the kit refuses it with a reason, twice"),
    ]
    rows += [(word, sample["survived"][word], meaning) for word, meaning in WORDS.items()]
    rows += [
        ("unexplained", sample["survived"]["unexplained"], "not explained yet"),
        (
            "unknown",
            sample["unknown"],
            "fails by chance, or comes to no end",
        ),
    ]
    return "\n".join(
        [
            (
                f"Of {sample['mutants']} edits that seed {sample['seed']} drew, **{died} of {judged}"
                f" ({100 * died / max(1, judged):.0f} %) died**; of the mutants that people chose, all"
                f" do. ({sample['date']}, commit {sample['commit']})"
            ),
            "",
            "| what became of it | edits | that is |",
            "| --- | --- | --- |",
            *(f"| {name} | {count} | {meaning} |" for name, count, meaning in rows),
            "",
        ]
    )


def with_sample(page: str, sample: dict[str, Any] | None) -> str:
    """The README with what is said of this sample."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the sample: {BEGIN}{END}")
    return before + BEGIN + "\n" + render(sample) + "\n" + END + after
