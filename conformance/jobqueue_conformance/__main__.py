"""The command `jobqueue-conformance`: the suite for ports of the protocol, wherever the kit is installed.

It hands everything to pytest, so every option of pytest works, and exits with pytest's status: 0 where all tests
pass, 1 where a requirement isn't met, 2 to 5 where nothing could be tested.
"""

import argparse
import os
import sys
from importlib.resources import files
from pathlib import Path

try:
    import pytest
except ModuleNotFoundError:
    sys.stderr.write(
        "jobqueue-conformance: the kit needs pytest; "
        "install it with: pip install 'jobqueue[conformance]'\n"
    )
    sys.exit(2)

from jobqueue_conformance.spec.assertions import NO_ASSERTIONS
from jobqueue_conformance.spec.manifest import MANIFEST
from jobqueue_conformance.spec.paths import IMPLEMENTATIONS, PACKAGE, SUITE

HELP = f"""\
jobqueue-conformance: tests an implementation of the JobQueue protocol

  jobqueue-conformance new DIR               write {MANIFEST}, with comments, and skeletons of both programs into DIR
  jobqueue-conformance                       test ./{MANIFEST}
  jobqueue-conformance --impl PATH|NAME      test another manifest, or one that ships with the kit ({{shipped}})
  jobqueue-conformance --server X --client Y test the server of one against the client of another
  jobqueue-conformance page DIR…             merge the reports in these folders into one site

Options, besides those of pytest:
  --redis auto|container|embedded|PATH|redis://…   which Redis to test on (default: auto)
  --redis-image IMAGE                        the container's image (default: redis:8)
  --boundary K                               replay a fault sweep at its boundary K only
  --report DIR                               write index.html, the page of the run, and its data
  --forbid-unsupported                       fail where something couldn't be tested here
  --strict                                   fail where a SHOULD isn't met, too
  -k server.remove                           only tests whose name or requirement matches
  -n N                                       in N processes

Exit status: 0 all tests passed, 1 a requirement isn't met, 2 to 5 nothing could be tested (the last line says why).
"""


def main() -> None:
    """Run the command."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["new"]:
        sys.exit(_new(arguments[1:]))
    if arguments[:1] == ["page"]:
        sys.exit(_page(arguments[1:]))
    given = any(each.startswith(("--impl", "--server", "--client")) for each in arguments)
    if {"-h", "--help"} & set(arguments) or (not given and not Path(MANIFEST).is_file()):
        shipped = ", ".join(
            sorted(each.parent.name for each in IMPLEMENTATIONS.glob(f"*/{MANIFEST}"))
        )
        print(HELP.format(shipped=shipped), end="")
        sys.exit(0 if given or arguments else 2)
    if not __debug__:  # pytest itself would fail before the plugin can report this
        print(f"ERROR: {NO_ASSERTIONS}", file=sys.stderr)
        sys.exit(pytest.ExitCode.USAGE_ERROR)
    if not given:
        arguments.insert(0, f"--impl={MANIFEST}")
    sys.exit(pytest.main(suite_arguments(arguments)))


def suite_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments for pytest: the kit's configuration, and the suite unless a test is named."""
    named = [str(PACKAGE / each) if _is_test(each) else each for each in arguments]
    suite = [] if named != arguments else [str(SUITE)]
    cache = f"cache_dir={Path.cwd() / '.pytest_cache'}"
    return [
        f"--config-file={PACKAGE / 'pytest.ini'}",
        f"--rootdir={PACKAGE}",
        "-o",
        cache,
        *suite,
        *named,
    ]


def _is_test(argument: str) -> bool:
    return argument.startswith("tests/") and (PACKAGE / argument.partition("::")[0]).is_file()


def _new(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: jobqueue-conformance new DIR", file=sys.stderr)
        return 2
    target = Path(arguments[0])
    skeleton = {
        each.name: each.read_bytes()
        for each in (files(__package__) / "skeleton").iterdir()
        if each.is_file()
    }
    there = sorted(name for name in skeleton if (target / name).exists())
    if there:
        print(f"{target / there[0]} already exists and was not changed", file=sys.stderr)
        return 1
    target.mkdir(parents=True, exist_ok=True)
    for name, content in skeleton.items():
        (target / name).write_bytes(content)
        print(os.path.join(arguments[0], name))  # noqa: PTH118 - as the user wrote it
    print(f"\nFill in these files, then run\n  jobqueue-conformance --impl {target / MANIFEST}")
    return 0


def _page(arguments: list[str]) -> int:
    from jobqueue_conformance.reports import site  # noqa: PLC0415 - only where it is asked for

    parser = argparse.ArgumentParser(
        prog="jobqueue-conformance page", description="Merge reports into one site."
    )
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="what --report wrote")
    parser.add_argument("--to", metavar="DIR", type=Path, default=Path("site"))
    parser.add_argument(
        "--since", metavar="DIR", type=Path, help="an older site: show what differs from it"
    )
    options = parser.parse_args(arguments)
    try:
        reports = site.read(options.folders)
        index = site.merged(reports, site.earlier(options.since))
    except site.Unusable as error:
        print(error, file=sys.stderr)
        return 2
    print(f"page: {site.write(options.to, reports, index)}")
    return 0


if __name__ == "__main__":
    main()
