"""Sequence diagrams: parties from left to right, steps downwards.

Pure: the steps of an exchange, of a transcript or of a state diagram in; what the template draws out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

FOLDED = 160  # characters of a step that are shown at once
LAST = 40  # steps that are shown at once, and more where a fault struck earlier
BEFORE = 4  # steps that are shown before the first that was struck
STRUCK = {"held", "lost", "reached Redis, unanswered"}
TRANSCRIPT = re.compile(r"^(\S+) +([<>~]) (.*)$", re.MULTILINE)
TRANSITION = re.compile(r"^ *(\S+) --> (\S+): (.+)$", re.MULTILINE)
BEGIN, END = "(start)", "(end)"


def drawn(exchange: Mapping[str, Any], fault: str = "") -> dict[str, Any]:
    """The diagram of a failed test; the fault stands where it struck last."""
    rows = [_row(each, exchange["parties"]) for each in exchange["steps"]]
    stopped = [number for number, row in enumerate(rows) if row["struck"]]
    if fault and not stopped:  # what was held has passed after the fault
        stopped = [number for number, row in enumerate(rows) if row["fate"]]
    if fault and stopped:
        rows[stopped[-1]]["fault"] = fault
    first = stopped[0] if stopped else len(rows)
    begin = max(min(len(rows) - LAST, first - BEFORE), 0)
    return {
        "parties": exchange["parties"],
        "left_out": exchange["left_out"],
        "timed": any("at" in row for row in rows),
        "earlier": rows[:begin],
        "rows": rows[begin:],
    }


def of_transcript(text: str) -> dict[str, Any]:
    """The diagram of a transcript in the protocol's text."""
    lines = TRANSCRIPT.findall(text)
    parties = [*dict.fromkeys(who for who, _, _ in lines), "Redis"]
    kinds = {">": "command", "<": "reply", "~": "message"}
    steps = [
        {
            "kind": kinds[sign],
            "from": who if sign == ">" else "Redis",
            "to": "Redis" if sign == ">" else who,
            "text": said,
        }
        for who, sign, said in lines
    ]
    return drawn({"parties": parties, "left_out": 0, "steps": steps})


def of_states(text: str) -> dict[str, Any]:
    """The diagram of a state diagram in Mermaid's notation: a lane for each state, a step for each transition."""
    transitions = [
        (begins.replace("[*]", BEGIN), ends.replace("[*]", END), said.replace("\\n", " "))
        for begins, ends, said in TRANSITION.findall(text)
    ]
    states = dict.fromkeys(each for begins, ends, _ in transitions for each in (begins, ends))
    parties = [*(each for each in states if each != END), *(each for each in states if each == END)]
    steps = [
        {"kind": "transition", "from": begins, "to": ends, "text": said}
        for begins, ends, said in transitions
    ]
    return drawn({"parties": parties, "left_out": 0, "steps": steps})


def _row(step: Mapping[str, Any], parties: Sequence[str]) -> dict[str, Any]:
    begins, ends = parties.index(step["from"]), parties.index(step["to"])
    left, right = min(begins, ends), max(begins, ends)
    fate = step.get("fate", "")
    timed = {"at": _time(step["at_ms"])} if "at_ms" in step else {}
    return {
        **step,
        **timed,
        "left": left + 1,
        "right": right + 1,
        "direction": "none" if begins == ends else "right" if begins < ends else "left",
        "side": "end" if left + right >= len(parties) else "start",
        "fate": fate,
        "struck": fate in STRUCK,
        "beginning": step["text"][:FOLDED] if len(step["text"]) > FOLDED else None,
        "fault": "",
    }


def _time(at_ms: float) -> str:
    return f"{at_ms:.1f}" if at_ms < 1000 else f"{at_ms:,.0f}"
