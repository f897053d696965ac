"""Extract the requirements of `protocol.md`, and render the registries into it.

`protocol.md` is the only source of the requirements; `errors.json` and `crash-table.json` are the
only sources of two of its tables. This script brings both directions up to date or, with `--check`,
fails when they aren't, and refuses a text in which a binding sentence could be missed or misread.
It never rewrites the extract of another version: the text has to keep all that an older one says, and
what it adds as a MUST belongs to a feature that the older one doesn't have.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SPEC = Path(__file__).parent
VERSION = re.compile(r"^# .*, version (\d+\.\d+)$", re.MULTILINE)
HEADING = re.compile(r"#+ (\d[\d.]*?)\.? (.+)")
PARAGRAPH = re.compile(r"(?:^.*\S.*\n?)+", re.MULTILINE)
REQUIREMENT = re.compile(r"\*\*\[([^\]]*)\]\*\* (.+?)(?:\n +Why: (.+))?\Z", re.DOTALL)
ID = re.compile(r"(client|server)\.[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*")
KEYWORD = re.compile(
    r"\b(?:(?:MUST|SHALL|SHOULD)(?: NOT)?|(?:NOT )?RECOMMENDED|REQUIRED|MAY|OPTIONAL)\b"
)
SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")
FEATURES = "| feature | since | class | ids | what it adds |"
UNTESTED = "| requirement | why no black-box test sees it |"


class Refused(Exception):  # noqa: N818 - it carries every fault of the text, not one error
    """The text can't be extracted; `faults` holds one sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Requirement:
    """One binding sentence; `section` and `hash` let reports and tests refer to its wording."""

    id: str
    keyword: str
    conformance_class: str
    feature: str | None
    section: str
    text: str
    why: str | None
    hash: str
    untested: str | None

    def as_json(self) -> dict[str, str | None]:
        """The requirement as it stands in the extract, where its class is called `class`."""
        renamed = {"conformance_class": "class"}
        return {renamed.get(name, name): value for name, value in asdict(self).items()}


def normalised(text: str) -> str:
    """The text with single spaces, so that a line broken elsewhere changes no hash."""
    return " ".join(text.split())


def table(text: str, header: str) -> list[list[str]]:
    """The cells, without back-quotes, of the rows of the only table that has this header."""
    _, found, rest = text.partition(f"{header}\n")
    if not found:
        raise Refused([f"the table '{header}' is missing"])
    rows = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def render(text: str, name: str, rows: Iterator[list[str]]) -> str:
    """The text with the table in the place that is marked with `name`."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    rendered = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    place = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = place.subn(lambda mark: f"{mark[1]}\n{rendered}\n{mark[2]}", text)
    if count != 1:
        raise Refused([f"the place '<!-- {name}: … --> … <!-- end -->' occurs {count} times"])
    return filled


def error_rows(registry: dict[str, Any]) -> Iterator[list[str]]:
    """The error registry as the rows of a table."""
    yield ["code", "where", "meaning", "the job may have run", "requirement"]
    for error in registry["errors"]:
        where = "on the wire" if error["where"] == "wire" else "in the client only"
        may_have_run = "yes" if error["may_have_run"] else "no"
        requirement = f"`{error['requirement']}`"
        yield [f"`{error['code']}`", where, error["meaning"], may_have_run, requirement]


def crash_rows(crash_table: dict[str, Any]) -> Iterator[list[str]]:
    """The crash table as the rows of a table, one for each step after which a server can die."""
    yield [
        "dies after",
        "the message is",
        "on restart, the server has to",
        "runs",
        "the client sees",
    ]
    places = {"queue": "in the queue", "in-process": "on the in-process list"}
    places["dead"] = "on the dead list"
    for row in crash_table["rows"]:
        state = " and ".join(places[place] for place in row["state"]) or "gone"
        least, most = row["runs"]["min"], row["runs"]["max"]
        runs = str(least) if least == most else f"{least} to {most}"
        yield [f"`{row['step']}`", state, row["restart"], runs, row["client"]]


def extract(text: str) -> list[Requirement]:
    """The requirements of a text, in its order.

    Raises:
        Refused: with every fault that was found, each with its line.
    """
    features = {ids.removesuffix("*"): feature for feature, _, _, ids, _ in table(text, FEATURES)}
    untested = {id_: reason for id_, reason in table(text, UNTESTED)}  # noqa: C416 - rows are lists
    found: dict[str, Requirement] = {}
    faults: list[str] = []
    section = ""
    for paragraph in PARAGRAPH.finditer(text):
        line = text.count("\n", 0, paragraph.start()) + 1
        if heading := HEADING.match(paragraph[0]):
            section = f"{heading[1]} {heading[2]}"
        match = REQUIREMENT.match(paragraph[0])
        faults += [f"line {line}: {fault}" for fault in paragraph_faults(paragraph[0], match)]
        if match is None:
            continue
        id_, sentence, why = match[1], normalised(match[2]), match[3]
        if id_ in found:
            faults.append(f"line {line}: the id '{id_}' is used twice")
        keyword = KEYWORD.search(sentence)
        found[id_] = Requirement(
            id=id_,
            keyword=keyword[0] if keyword else "",
            conformance_class=id_.split(".")[0],
            feature=next((features[ids] for ids in features if id_.startswith(ids)), None),
            section=section,
            text=sentence,
            why=normalised(why) if why else None,
            hash=hashlib.sha256(sentence.encode()).hexdigest(),
            untested=untested.get(id_),
        )
    used = {requirement.feature for requirement in found.values()}
    faults += [
        f"the feature '{name}' has no requirement" for name in features.values() if name not in used
    ]
    faults += [
        f"the untested id '{id_}' is not a requirement" for id_ in untested if id_ not in found
    ]
    if faults:
        raise Refused(faults)
    return list(found.values())


def paragraph_faults(paragraph: str, match: re.Match[str] | None) -> Iterator[str]:
    """What is wrong with one paragraph, be it a requirement or not."""
    if match is None:
        if keyword := KEYWORD.search(paragraph):
            yield f"{keyword[0]} stands outside a requirement"
        if "**[" in paragraph:
            yield "a requirement doesn't begin its paragraph, or has no sentence"
        return
    id_, sentence, why = match.groups(default="")
    if not ID.fullmatch(id_):
        yield f"the id '{id_}' is not of the form class.noun.name with the class client or server"
    if len(SENTENCE_END.findall(sentence)) != 1 or not sentence.rstrip().endswith("."):
        yield f"'{id_}' is not one sentence"
    if (count := len(KEYWORD.findall(sentence))) != 1:
        yield f"'{id_}' has {count} keywords in place of one"
    if keyword := KEYWORD.search(why):
        yield f"{keyword[0]} stands outside a requirement, in the reason of '{id_}'"
    if "**[" in sentence + why:
        yield f"another requirement stands in the paragraph of '{id_}'"


def error_faults(registry: dict[str, Any], ids: set[str]) -> Iterator[str]:
    """What is wrong with the error registry, compared with these requirements."""
    codes = [error["code"] for error in registry["errors"]]
    yield from (
        f"the error code '{c}' is registered twice" for c in set(codes) if codes.count(c) > 1
    )
    for error in registry["errors"]:
        if error["requirement"] not in ids:
            yield f"the error code '{error['code']}' names an unknown '{error['requirement']}'"


def frozen_faults(
    older: dict[str, Any], found: list[Requirement], since: dict[str, str]
) -> Iterator[str]:
    """How the text breaks the promise that what conforms to an older version still does.

    Args:
        older: the extract of that version.
        found: the requirements of the text.
        since: the version that brought each feature of the text.
    """
    released = older["spec"]
    hashes = {each.id: each.hash for each in found}
    ids = {each["id"] for each in older["requirements"]}
    for requirement in older["requirements"]:
        if hashes.get(requirement["id"]) != requirement["hash"]:
            yield f"'{requirement['id']}' differs from version {released}, which is released"
    for added in found:
        if added.id in ids or not added.keyword.startswith("MUST"):
            continue
        if added.feature is None or not later(since[added.feature], released):
            yield f"'{added.id}' binds what conforms to version {released}, which is released"


def later(version: str, than: str) -> bool:
    """Whether a version came after another one."""
    return [int(part) for part in version.split(".")] > [int(part) for part in than.split(".")]


def generate(folder: Path) -> dict[Path, str]:
    """The files that follow from a folder's sources, with the content that each has to have.

    Raises:
        Refused: if the sources break a rule of their form.
    """
    text = (folder / "protocol.md").read_text("utf-8")
    errors = json.loads((folder / "errors.json").read_text("utf-8"))
    crash_table = json.loads((folder / "crash-table.json").read_text("utf-8"))
    text = render(text, "errors", error_rows(errors))
    text = render(text, "crash-table", crash_rows(crash_table))
    version = VERSION.search(text)
    if version is None:
        raise Refused(["the title doesn't end in 'version N.N'"])
    requirements = extract(text)
    faults = list(error_faults(errors, {requirement.id for requirement in requirements}))
    target = folder / "requirements" / f"{version[1]}.json"
    since = {feature: brought for feature, brought, *_ in table(text, FEATURES)}
    faults += [
        f"the feature '{feature}' is of version {brought}, which comes after {version[1]}"
        for feature, brought in since.items()
        if later(brought, version[1])
    ]
    for path in sorted(target.parent.glob("*.json")):
        if path != target:
            faults += frozen_faults(json.loads(path.read_text("utf-8")), requirements, since)
    if faults:
        raise Refused(faults)
    extracted = {
        "$schema": "../../schemas/requirements.schema.json",
        "spec": version[1],
        "requirements": [requirement.as_json() for requirement in requirements],
    }
    as_json = json.dumps(extracted, ensure_ascii=False, indent=2) + "\n"
    return {folder / "protocol.md": text, target: as_json}


def main(arguments: list[str], say: Callable[[str], object] = sys.stderr.write) -> int:
    """Run the script and return its exit status: 0, or 1 if the text is refused or stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a file is stale"
    )
    parser.add_argument("--folder", type=Path, default=SPEC, help="the folder of protocol.md")
    options = parser.parse_args(arguments)
    try:
        files = generate(options.folder)
    except Refused as refused:
        for fault in refused.faults:
            say(f"{options.folder / 'protocol.md'}: {fault}\n")
        return 1
    stale = [path for path in files if not path.exists() or path.read_text("utf-8") != files[path]]
    for path in stale:
        if options.check:
            say(f"{path} is stale: run `python spec/extract.py`\n")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], "utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
