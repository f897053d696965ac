"""What passed the proxy, written as redis-cli would show it, with times.

Pure: events in, lines out.
"""

import hiredis

from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.events import ASKED, COMMAND, HEARD, MESSAGE, REPLY, Event

LONGEST = 400
SIGNS = {COMMAND: ">", ASKED: ">", REPLY: "<", MESSAGE: "~", HEARD: "~"}


def lines(events: list[Event]) -> list[str]:
    """One line for each event: milliseconds since the first, who, which connection, which way, what."""
    if not events:
        return ["(nothing passed)"]
    start_s = events[0].at_s
    return [_line(event, start_s) for event in events]


def _line(event: Event, start_s: float) -> str:
    at_ms = (event.at_s - start_s) * 1000
    party = f"{event.who}#{event.connection}" if event.connection else f"{event.who}  "
    fate = f"  ({event.fate})" if event.fate else ""
    return f"{at_ms:9.1f} ms  {party} {SIGNS.get(event.kind, ' ')} {text(event)}{fate}"


def text(event: Event) -> str:
    """What an event says, on one line."""
    match event.kind:
        case "command" | "asked":
            return _command(resp.arguments(event.frame))
        case "reply" | "message" | "heard":
            return said(resp.value(event.frame))
        case "opened" | "closed":
            return f"({event.kind})"
        case "cut":
            return f"(cut by {event.frame.decode()})"
        case _:
            return f"{event.kind:6} {_shortened(visible(event.frame.decode(errors='replace')))}"


def _command(arguments: tuple[bytes, ...]) -> str:
    shown = []
    hidden = 0
    for position, argument in enumerate(arguments):
        # Passwords of AUTH and HELLO … AUTH stay out of every log.
        if position and arguments[position - 1].upper() == b"AUTH" and arguments[0] == b"HELLO":
            hidden = 2
        if arguments[0] == b"AUTH" and position:
            hidden = 1
        shown.append("*****" if hidden else quoted(argument))
        hidden = max(hidden - 1, 0)
    return " ".join(shown)


def quoted(text: bytes) -> str:
    """Bytes as an argument that redis-cli takes: bare where that is possible, shortened where it is long."""
    words = _shortened(text.decode("utf-8", errors="backslashreplace"))
    if words and words.isprintable() and not any(char in words for char in " '\""):
        return words
    if words.isprintable() and "'" not in words:
        return f"'{words}'"
    words = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible(words)}"'


def _shortened(words: str) -> str:
    if len(words) <= LONGEST:
        return words
    left_out = len(words) - LONGEST
    return f"{words[: LONGEST // 2]}… ({left_out} characters left out) …{words[-LONGEST // 2 :]}"


def visible(text: str) -> str:
    """Text in which every character that isn't printed, or that turns the direction of others, is an escape."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def said(value: object) -> str:
    """A reply's value on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(said, value))}]" if value else "(empty array)"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{said(key)}: {said(each)}' for key, each in value.items())}}}"
    return _scalar(value)


def _scalar(value: object) -> str:
    match value:
        case None:
            shown = "(nil)"
        case hiredis.ReplyError():
            shown = f"(error) {visible(str(value))}"
        case bool():
            shown = f"({str(value).lower()})"
        case int():
            shown = f"(integer) {value}"
        case bytes():
            shown = quoted(value)
        case _:
            shown = str(value)
    return shown
