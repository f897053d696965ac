"""What takes part in a storm: commands, as a manifest of the kit names them, or Python's five shapes of servers."""

import sys
from dataclasses import dataclass
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


def shapes() -> list[Program]:
    """The Python reference's servers, in each of their shapes."""
    program = Path(server.__file__)
    return [
        Program(shape, (sys.executable, program.name, shape), program.parent)
        for shape in server.SHAPES
    ]


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
