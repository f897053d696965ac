"""The account of a storm, for a reader and for a program.

Pure.
"""

from typing import Any

from chaos.account import Account

SHOWN = 20


def text(account: Account) -> str:
    """A table, then what is wrong."""
    rows = [
        ("pushed", f"{account.pushed:,}"),
        ("accepted by Redis", f"{account.accepted:,}"),
        ("never arrived there", f"{account.never_arrived:,}"),
        ("answered", f"{account.answered:,}"),
        ("lost", f"{len(account.lost):,}"),
        ("run twice", f"{account.run_twice:,}"),
        ("results lost to living callers", f"{account.results_lost:,}"),
        ("longest from kill to re-run", _seconds(account.kill_to_rerun_s)),
        ("longest from connect to re-run", _seconds(account.connect_to_rerun_s)),
    ]
    if account.kept:
        rows += [
            ("collected after a kill", "{:,} of {:,}".format(*account.collected)),
            ("accepted, their push unanswered", f"{account.unanswered:,}"),
            ("longest from return to settled", _seconds(account.return_to_settled_s)),
            ("of that, the machine was late", _seconds(account.machine_late_s)),
        ]
    lines = [f"{name:32}{value:>10}" for name, value in rows]
    lines += [f"FAULT {each}" for each in account.faults[:SHOWN]]
    if len(account.faults) > SHOWN:
        lines.append(f"and {len(account.faults) - SHOWN:,} more")
    return "\n".join(lines)


def _seconds(time_s: float | None) -> str:
    return "-" if time_s is None else f"{time_s:.2f} s"


def data(account: Account) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "pushed": account.pushed,
        "accepted": account.accepted,
        "never_arrived": account.never_arrived,
        "answered": account.answered,
        "lost": account.lost,
        "run_twice": account.run_twice,
        "results_lost": account.results_lost,
        "kill_to_rerun_s": account.kill_to_rerun_s,
        "connect_to_rerun_s": account.connect_to_rerun_s,
        "collected": account.collected,
        "unanswered": account.unanswered,
        "return_to_settled_s": account.return_to_settled_s,
        "machine_late_s": account.machine_late_s,
        "faults": account.faults,
        "good": account.good,
    }
