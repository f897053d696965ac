"""What passed the proxy, written as redis-cli would show it, with times.

Pure: events in, lines out.
"""

import hiredis

from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.events import CLOSED, COMMAND, MESSAGE, NOTE, OPENED, Event

LONGEST = 400


def lines(events: list[Event]) -> list[str]:
    """One line for each event: milliseconds since the first, who, which connection, which way, what."""
    if not events:
        return ["(nothing passed)"]
    start_s = events[0].at_s
    return [_line(event, start_s) for event in events]


def _line(event: Event, start_s: float) -> str:
    at_ms = (event.at_s - start_s) * 1000
    if event.kind == NOTE:
        return f"{at_ms:9.1f} ms  {event.who}    {event.frame.decode(errors='replace')}"
    party = f"{event.who}#{event.connection}"
    if event.kind in {OPENED, CLOSED}:
        return f"{at_ms:9.1f} ms  {party}  ({event.kind})"
    if event.kind == COMMAND:
        return f"{at_ms:9.1f} ms  {party} > {_command(event.arguments)}"
    sign = "~" if event.kind == MESSAGE else "<"
    return f"{at_ms:9.1f} ms  {party} {sign} {said(resp.value(event.frame))}"


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
    words = text.decode("utf-8", errors="backslashreplace")
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]}… {len(words) - LONGEST} more …{words[-LONGEST // 2 :]}"
    if words and words.isprintable() and not any(char in words for char in " '\""):
        return words
    if words.isprintable() and "'" not in words:
        return f"'{words}'"
    return (
        '"'
        + words.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
        + '"'
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
            shown = f"(error) {value}"
        case bool():
            shown = f"({str(value).lower()})"
        case int():
            shown = f"(integer) {value}"
        case bytes():
            shown = quoted(value)
        case _:
            shown = str(value)
    return shown
