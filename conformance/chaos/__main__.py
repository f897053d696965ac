"""Lets servers and clients run jobs in a storm of faults, and accounts for every job.

    make chaos                                    a minute of it, with a seed that is printed
    make chaos SECONDS=300 SEED=7                 five minutes, with the faults of seed 7
    python -m chaos --fleet 30 --seconds 300      30 servers that live 10 to 30 s, each under a name of its own
    python -m chaos --server coffee --server bash --client python    other programs

Servers are started again when they have ended, under the same name or a new one. A real Redis with `appendfsync always`
stands behind a port of its own for each program. The seed decides which fault hits which program and when;
it can't decide what the programs are doing at that moment. So the same seed repeats the faults, and not always the
failure.

A job is lost when Redis has accepted it, as its append-only file says, and it is then on no list although no
result of it was ever sent. A push that never reached Redis isn't lost. The exit status is 0 where no job is lost,
none is stuck or misreported, and no process hangs; else 1, and 2 for a mistake in the command line.
"""

import argparse
import json
import random
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.redis_servers.base import RedisUnavailable
from jobqueue_conformance.spec import manifest

from chaos import programs, report, schedule
from chaos.account import settle
from chaos.names import FLEET, STORM
from chaos.storm import CannotStart, Storm

LOGS = Path("build", "chaos")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    what = "\n".join(f"  {kind:8}  {words}" for kind, words in schedule.WHAT.items())
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__,
        epilog=f"faults:\n{what}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    say = parser.add_argument
    many: dict[str, Any] = {"action": "append", "metavar": "IMPL"}
    both = " and ".join(programs.CLIENTS)
    say("--seconds", type=float, default=60.0, help="how long faults are injected (default: 60)")
    say("--seed", type=int, help="decides the faults (default: drawn, and printed)")
    say("--server", **many, help="a manifest's server (default: Python's five shapes); repeatable")
    say("--client", **many, help=f"a manifest's client (default: {both}); repeatable")
    say("--fleet", type=int, metavar="N", help="N servers with new names, killed again and again")
    say("--keep", type=float, metavar="S", help="keep results for S seconds, and kill clients, too")
    say("--fault", action="append", choices=schedule.KINDS, help="only such faults; repeatable")
    say("--redis", default="auto", help="auto, embedded, or the path of a redis-server")
    say("--logs", type=Path, default=LOGS, help=f"where logs are kept (default: {LOGS})")
    say("--json", action="store_true", help="the account as JSON on standard output")
    return parser.parse_args()


def main() -> int:
    """Run a storm, print its account, and say what to repeat."""
    options = arguments()
    seed = random.randrange(10**6) if options.seed is None else options.seed  # noqa: S311 - no secret
    try:
        servers = _servers(options)
        clients = programs.named(options.client or list(programs.CLIENTS), "client")
        binary = (
            choice.program() if options.redis == "auto" else choice.choose(options.redis, "", say)
        )
    except (manifest.ManifestError, RedisUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    logs: Path = options.logs.resolve() / f"seed-{seed}"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    chance = random.Random(seed)  # noqa: S311 - no secret
    who = [each.name for each in servers]
    if options.fleet:
        times, faults = FLEET, schedule.replacements(chance, options.seconds, who)
    else:
        kinds = options.fault or [
            each for each in schedule.KINDS if options.keep or each != "kill-client"
        ]
        pushing = [each.name for each in clients]
        times, faults = STORM, schedule.draw(chance, options.seconds, who, pushing, kinds)
    say(f"seed {seed}: {len(faults)} faults in {options.seconds:g} s, on {binary}")
    say(f"servers: {', '.join(each.name for each in servers)}")
    say(f"clients: {', '.join(each.name for each in clients)}")
    try:
        with Storm(binary, servers, clients, logs, say, times, options.keep) as storm:
            account = settle(storm.rage(faults, options.seconds))
            injected = dict(storm.injected)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        said = {
            "seed": seed,
            "seconds": options.seconds,
            "injected": injected,
            **report.data(account),
        }
        print(json.dumps(said, indent=2))
    else:
        print(", ".join(f"{count} {kind}" for kind, count in injected.items()))
        print(report.text(account))
        print(f"{'L + C + 1 s':32}{times.rerun_s:>8.2f} s")
    if not account.good:
        again = shlex.join(["python", "-m", "chaos", *sys.argv[1:], f"--seed={seed}"])
        say(f"to repeat the faults: {again}\nlogs: {logs}")
    return 0 if account.good else 1


def _servers(options: argparse.Namespace) -> list[programs.Program]:
    if options.server:
        return programs.named(options.server, "server")
    return programs.fleet(options.fleet) if options.fleet else programs.shapes()


def say(line: str) -> None:
    """Tell how it goes, where it doesn't disturb a program that reads the account."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
