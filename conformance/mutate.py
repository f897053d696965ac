"""Makes small random edits of the Python reference, and asks whether the suite notices.

    python conformance/mutate.py --number 20 --seed 7     the first 20 edits that this seed draws
    python conformance/mutate.py --only 3f2a90c1          one edit again, by its name
    python conformance/mutate.py --number 200 --publish   the sample that conformance/README.md shows

Each survivor is shown with its diff and with what is to be written into mutation/survivors.toml, where
a word says why it survives. Those of which that file says that no test can or should kill them aren't
run again: a survivor costs every test that comes to it. The program of each stays under build/mutate/.
Exit status 0: every survivor is explained.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.redis_servers import choice
from mutation import sample, survivors, trial
from mutation.sample import ROOT


def main() -> int:
    """Select edits, test them and print the result; exit with 0 if every survivor is explained."""
    parser = _parser()
    options = parser.parse_args()
    if options.only and options.publish:
        parser.error("--publish is for a random sample, so it can't be combined with --only")
    judged = commit()
    possible = sample.possible()
    words = survivors.explained(survivors.EXPLAINED.read_text(encoding="utf-8"))
    if options.only:
        mutants = [each for each in possible if each.name in options.only]
        if unknown := set(options.only) - {each.name for each in mutants}:
            parser.error(f"there is no edit {', '.join(sorted(unknown))}")
    else:
        mutants = list(islice(sample.drawn(possible, options.seed), options.number))
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)

    say(f"{len(mutants)} of {len(possible)} edits, seed {options.seed}")
    redis = choice.program()
    trial.BUILD.mkdir(parents=True, exist_ok=True)
    right = {colour: trial.known(colour, redis, options.jobs) for colour in trial.COLOURS}
    say("the right library passes, in both colours")
    spared = [] if options.only else survivors.spared(mutants, words)
    verdicts = [trial.Verdict(each, "survived", "as before") for each in spared]
    on_trial = [each for each in mutants if each not in spared]
    for verdict in trial.judge(on_trial, right, redis, options.jobs):
        verdicts.append(verdict)
        say(
            f"{len(verdicts)} of {len(mutants)}: {verdict.mutant.name} {verdict.how}, {verdict.by}"
            f" ({verdict.took_s:.0f} s)"
        )
    unexplained = _show(verdicts, words)
    figures = survivors.figures(verdicts, words)
    print(
        f"{figures['killed'] + figures['refused']} of {figures['mutants'] - figures['unknown']} died,"
        f" {figures['unknown']} unknown, {unexplained} to be explained"
    )
    if options.publish:
        _publish(
            figures
            | {
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "commit": judged,
                "seed": options.seed,
                "took_s": round(time.monotonic() - started),
            }
        )
    return 1 if unexplained or not verdicts else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=20, help="of edits (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the random order (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="an edit, by its name")
    parser.add_argument(
        "--jobs",
        type=int,
        default=(os.cpu_count() or 1) + 1,  # a run waits for programs to start, now and then
        help="runs at a time (default: %(default)s)",
    )
    parser.add_argument("--publish", action="store_true", help="show this sample in the README")
    return parser


def _show(verdicts: list[trial.Verdict], words: dict[sample.Key, str]) -> int:
    """Print the survivors; returns how many of them have no explanation."""
    unexplained = 0
    for verdict in verdicts:
        if verdict.died:
            continue
        key = verdict.mutant.key
        said = words.get(key)
        print(f"\n{verdict.how}: {verdict.mutant.name}, {verdict.by}; {said or 'unexplained'}")
        print(verdict.mutant.diff())
        if verdict.how == "survived" and said is None:
            unexplained += 1
            print(survivors.entry(key))
    return unexplained


def commit() -> str:
    """The commit of the code, marked if files were changed."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty= with changes", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _publish(figures: dict[str, object]) -> None:
    survivors.SAMPLE.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    page = survivors.README.read_text(encoding="utf-8")
    survivors.README.write_text(survivors.with_sample(page, figures), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
