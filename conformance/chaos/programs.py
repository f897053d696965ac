"""What takes part in a storm: commands, as a manifest of the kit names them, or Python's five shapes of servers."""

import sys
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from jobqueue_conformance.spec import manifest

from chaos import server

CLIENTS = ("python", "python-asyncio")


@dataclass(frozen=True)
class Program:
    """A command, where it runs, and the name under which it takes part."""

    name: str
    command: tuple[str, ...]
    folder: Path
    fresh: bool = False  # whether each life of it has a name of its own


FRESH = {"threads-serial", "threads-concurrent", "asyncio-serial"}


def shapes() -> list[Program]:
    """The Python reference's servers, in each of their shapes, most with a new name in each life."""
    return [_shape(shape, shape, fresh=shape in FRESH) for shape in server.SHAPES]


def fleet(number: int) -> list[Program]:
    """As many servers, in all shapes, each with a new name in each life."""
    kinds = islice(cycle(server.SHAPES), number)
    return [_shape(f"{kind}-of-{at}", kind, fresh=True) for at, kind in enumerate(kinds, 1)]


def _shape(name: str, shape: str, *, fresh: bool) -> Program:
    program = Path(server.__file__)
    return Program(name, (sys.executable, program.name, shape), program.parent, fresh)


def named(manifests: list[str], role: str) -> list[Program]:
    """The programs of this role, `server` or `client`, numbered where a manifest is named twice.

    Raises:
        ManifestError: a manifest can't be read, or has no such program.
    """
    programs: list[Program] = []
    for each in manifests:
        implementation = manifest.read(each)
        command = implementation.server if role == "server" else implementation.client
        if command is None:
            raise manifest.ManifestError(f"{implementation.path} names no {role}")
        name = f"{role}-{len(programs) + 1}-{implementation.name}"
        programs.append(Program(name, command, implementation.folder))
    return programs
