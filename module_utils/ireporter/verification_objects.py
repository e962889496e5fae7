"""Everything of a database that is not rows: schema objects, roles, properties, extensions, sequences, large objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from .database_catalog import read_sequences
from .database_connection import Connection, query
from .database_internal_triggers import read_internal_triggers
from .database_roles import Role, members_elsewhere, read_roles, settings_elsewhere
from .database_settings import Grant, explode
from .database_target import Properties, read_properties
from .verification_exceptions import ABSENT, Difference, linkage_object
from .verification_rows import Seeds, hashes

_HEADER = re.compile(
    r"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[^;]*); Schema: (?P<schema>.*); Owner: (?P<owner>.*)$"
)
_OF_THE_RUN = ("-- Dumped ", "\\restrict ")
"""Lines of the head that tell one run of ``pg_dump`` from another; nobody else writes there."""
_OF_A_CONSTRAINT = re.compile(r"\ATRIGGER .* RI_ConstraintTrigger_[ac]_\d+\Z", re.DOTALL)
_FOOT = re.compile(r"--\n-- PostgreSQL database dump complete\n--\n\n(\\unrestrict \w+\n\n)?\Z")
_GRANTOR = "SET SESSION AUTHORIZATION "
_ACCESS_METHOD = "SET default_table_access_method = "
_EXCERPT = 200
_SECRETIVE = ("USER MAPPING ", "SERVER ", "SUBSCRIPTION ", "FOREIGN DATA WRAPPER ", "FOREIGN TABLE ")


def compare_maps(kind: str, source: Mapping[str, str], target: Mapping[str, str]) -> list[Difference]:
    """Differences between two maps of name to value; where both are long texts, the first lines that differ."""
    found = []
    for name in sorted(source.keys() | target.keys()):
        left, right = source.get(name), target.get(name)
        if left != right:
            shown = _excerpts(left, right)
            found.append({"kind": kind, "object": name, "source": shown[0], "target": shown[1]})
    return found


def _excerpts(left: str | None, right: str | None) -> tuple[str, str]:
    if left is None or right is None:
        return tuple(ABSENT if text is None else _short(text.strip().partition("\n")[0]) for text in (left, right))  # type: ignore[return-value]
    ours, theirs = left.split("\n"), right.split("\n")
    shown = _short(_only(ours, theirs)), _short(_only(theirs, ours))
    if shown[0] != shown[1]:
        return shown
    # Blank lines, or white space around one: from where they part, so that it can be seen.
    start = next((number for number, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0)
    return repr(left[start : start + 80]), repr(right[start : start + 80])


def _only(lines: list[str], others: list[str]) -> str:
    """The lines that the others have not, or all where only the order differs."""
    known = set(others)
    return (
        " ".join(line.strip() for line in lines if line not in known)
        or ("nothing more" if others else "")
        or " ".join(lines)
    )


def _short(text: str) -> str:
    return (
        text
        if len(text) <= _EXCERPT
        else f"{text[:_EXCERPT]}… ({hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:12]})"
    )


def schema_objects(text: str) -> dict[str, str]:
    """Definitions by ``TYPE schema.name`` out of the text that ``pg_dump --schema-only`` writes.

    Nothing of a definition is left out: bodies, comments and defaults have blank lines and lines like ``--`` of their own. A line
    inside a function's body may look like a heading; it does so on both sides, so the comparison stays exact.
    The access method of a table is set before its heading, and only where it differs from the one before.
    """
    objects: dict[str, list[str]] = {}
    methods: dict[str, str] = {}
    method = ""
    # Only \n ends a line: \r, \x0b, \x0c, \x85 and U+2028 are part of what somebody wrote.
    lines = _FOOT.sub("", text).split("\n")
    headings = [
        (number, heading)
        for number, heading in ((number, _HEADER.match(line)) for number, line in enumerate(lines))
        if heading and lines[number - 1 : number] == ["--"] and lines[number + 1 : number + 2] == ["--"]
    ]
    ends = [number - 1 for number, _ in headings] + [len(lines)]
    own: list[str] = [line for line in lines[: ends[0]] if not line.startswith(_OF_THE_RUN)]
    objects["preamble"] = own
    for (number, heading), end in zip(headings, ends[1:], strict=True):
        schema = "" if heading["schema"] == "-" else f"{heading['schema']}."
        label = f"{heading['type']} {schema}{heading['name']}"
        if heading["type"] in ("TABLE", "MATERIALIZED VIEW"):
            if len(own) > 1 and own[-2].startswith(_ACCESS_METHOD) and not own[-1]:
                method = f"access method {own[-2].removeprefix(_ACCESS_METHOD)}"
                del own[-2:]
            methods[label] = method
        own = objects.setdefault(label, [])
        own.append(f"owner {heading['owner']}")
        own += lines[number + 2 : end]
    for name, own_method in methods.items():
        if not any(line.startswith("PARTITION BY ") for line in objects[name]):
            objects[name].append(own_method)
    # Triggers of constraints have a number of their server's own in their name, and are written only where their state is unusual:
    # that state is compared by what the constraint is.
    objects = {name: lines for name, lines in objects.items() if not _OF_A_CONSTRAINT.search(name)}
    # Grants mean the same in any order.
    return {
        name: "\n".join(sorted(_grant_units(lines)) if name.startswith(("ACL ", "DEFAULT ACL ")) else lines)
        for name, lines in objects.items()
    }


def _grant_units(lines: list[str]) -> Iterator[str]:
    """Statements of grants, each together with the ``SET SESSION AUTHORIZATION`` it is given under, and the owner's line."""
    unit: list[str] = []
    for line in lines:
        if not unit and (not line or line.startswith("owner ")):
            if line:
                yield line
            continue
        unit.append(line)
        statements = "\n".join(unit)
        # A name may hold the end of a line, or of a statement, inside of its quotes.
        if line.endswith(";") and statements.count('"') % 2 == 0:
            if unit[0].startswith(_GRANTOR) and not line.startswith("RESET SESSION AUTHORIZATION"):
                continue
            yield statements
            unit = []
    if unit:
        yield "\n".join(unit)


def _veiled(found: Difference) -> Difference:
    """Definitions that may hold a password are not shown."""
    if not found["object"].startswith(_SECRETIVE):
        return found
    shown = {
        side: found[side] if found[side] == ABSENT else "a definition that is not shown"
        for side in ("source", "target")
    }
    return found | shown


def compare_schema(source: str, target: str, *, structure: bool) -> tuple[list[Difference], int]:
    """Differences of two schema texts, and the number of objects.

    :param structure: linkage objects may be more, or others, on the target.
    """
    ours, theirs = schema_objects(source), schema_objects(target)
    differences = [_veiled(found) for found in compare_maps("object", ours, theirs)]
    if structure:
        differences = [
            found for found in differences if not (linkage_object(found["object"]) and found["target"] != ABSENT)
        ]
    return differences, len(ours) - 1


def _extensions(connection: Connection) -> dict[str, str]:
    return {
        str(name): f"version {version}\nschema {schema}\nowner {owner}"
        for name, version, schema, owner in query(
            connection,
            "SELECT extname, extversion, nspname, pg_get_userbyid(extowner)"
            " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace",
        )
    }


def compare_extensions(source: Connection, target: Connection) -> list[Difference]:
    """By name: version, schema and owner."""
    return compare_maps("extension", _extensions(source), _extensions(target))


def compare_internal_triggers(source: Connection, target: Connection) -> list[Difference]:
    """Foreign keys and deferred constraints that are not enforced as they are by default."""
    return compare_maps("enforcement", read_internal_triggers(source), read_internal_triggers(target))


def compare_sequences(source: Connection, target: Connection) -> tuple[list[Difference], int]:
    """Values, and the number of sequences."""
    sides = [
        {
            f"{schema}.{name}": f"{value}, {'handed out' if called else 'not handed out'}"
            for (schema, name), (value, called) in read_sequences(connection).items()
        }
        for connection in (source, target)
    ]
    return compare_maps("sequence", sides[0], sides[1]), len(sides[0])


def _grants(grants: tuple[Grant, ...] | list[Grant]) -> str:
    return "; ".join(sorted(str(grant) for grant in grants)) or "none"


def _database(properties: Properties, limit: int | None) -> dict[str, str]:
    values = {
        "owner": properties.owner,
        "encoding": properties.encoding,
        "comment": repr(properties.comment),
        "connection limit": str(properties.connection_limit if limit is None else limit),
        "template": str(properties.is_template),
        "grants": _grants(properties.grants),
    }
    return values | {f"locale {name}": str(value) for name, value in properties.locale.items()}


def _settings(settings: tuple[str, ...]) -> dict[str, str]:
    return {setting.partition("=")[0]: setting.partition("=")[2] for setting in settings}


def compare_database(source: Connection, target: Connection, limit: int | None) -> list[Difference]:
    """Owner, encoding, locale, comment, connection limit, grants and settings of the database.

    :param limit: the source's connection limit before it was frozen, or ``None``.
    """
    ours, theirs = read_properties(source), read_properties(target)
    return compare_maps("database", _database(ours, limit), _database(theirs, None)) + compare_maps(
        "database setting", _settings(ours.settings), _settings(theirs.settings)
    )


def _fingerprint(verifier: str | None) -> str:
    """Tells two verifiers apart without giving one away."""
    return ABSENT if verifier is None else f"password verifier {hashlib.sha256(verifier.encode()).hexdigest()[:16]}"


def compare_roles(source: Connection, target: Connection) -> tuple[list[Difference], int]:
    """The roles the source's database needs, as they are on both servers, and their number."""
    ours = {role.name: role for role in read_roles(source)}
    theirs = {role.name: role for role in read_roles(target, list(ours))}
    differences: list[Difference] = [
        {"kind": "role membership", "object": f"{member} in {role}", "source": ABSENT, "target": "member"}
        for member, role in members_elsewhere(source, target)
    ]
    for name, settings in settings_elsewhere(target, list(ours)).items():
        found = {f"{name} in the database: {setting}": text for setting, text in _settings(settings).items()}
        differences += compare_maps("role setting", {}, found)
    for name, role in ours.items():
        other = theirs.get(name)
        if other is None:
            differences.append({"kind": "role", "object": name, "source": "present", "target": ABSENT})
        else:
            differences += _compare_role(role, other)
    return differences, len(ours)


def _compare_role(ours: Role, theirs: Role) -> list[Difference]:
    """By attribute, membership, setting and so on; of two first superusers their settings in the database only."""

    def described(role: Role) -> dict[str, str]:
        values = {f"{role.name}: {name}": str(value) for name, value in role.attributes.items()}
        return values | {f"{role.name}: comment": repr(role.comment)}

    def members(role: Role) -> dict[str, str]:
        return {
            f"{role.name} in {group}": "with admin option" if admin else "member"
            for group, admin in role.member_of.items()
        }

    def everywhere(role: Role) -> dict[str, str]:
        return {f"{role.name}: {name}": text for name, text in _settings(role.settings).items()}

    def here(role: Role) -> dict[str, str]:
        return {
            f"{role.name} in the database: {name}": text for name, text in _settings(role.database_settings).items()
        }

    def parameters(role: Role) -> dict[str, str]:
        return {
            f"{role.name}: {privilege} on {parameter}": "with grant option" if grantable else "granted"
            for (parameter, privilege), grantable in role.parameter_grants.items()
        }

    found = compare_maps("role setting", here(ours), here(theirs))
    if ours.bootstrap and theirs.bootstrap:
        return found  # each belongs to its server
    found += compare_maps("role", described(ours), described(theirs))
    if not (ours.bootstrap or theirs.bootstrap):
        found += compare_maps("role membership", members(ours), members(theirs))
        found += compare_maps("parameter grant", parameters(ours), parameters(theirs))
    found += compare_maps("role setting", everywhere(ours), everywhere(theirs))
    return found + compare_maps(
        "role password", {ours.name: _fingerprint(ours.verifier)}, {ours.name: _fingerprint(theirs.verifier)}
    )


def _large_objects(connection: Connection, seeds: Seeds) -> dict[str, str]:
    grants = explode(connection, "oid, coalesce(lomacl, acldefault('L', lomowner))", "pg_largeobject_metadata", "true")
    first, second = hashes(seeds)
    contents = {
        row[0]: row[1:]
        for row in query(
            connection,
            f"SELECT loid, sum(size), sum({first}), sum({second}) FROM "  # noqa: S608
            "(SELECT loid, octet_length(data) AS size, ARRAY[int4send(pageno) || data] AS r FROM pg_largeobject OFFSET 0) AS pages"
            " GROUP BY 1",
        )
    }
    return {
        str(number): f"owner {owner}\ngrants {_grants(grants.get(number, []))}\ncomment {comment!r}\n"
        f"contents {' '.join(str(part) for part in contents.get(number, ('empty',)))}"
        for number, owner, comment in query(
            connection,
            "SELECT oid, pg_get_userbyid(lomowner), obj_description(oid, 'pg_largeobject') FROM pg_largeobject_metadata",
        )
    }


def compare_large_objects(source: Connection, target: Connection, seeds: Seeds) -> tuple[list[Difference], int]:
    """Contents page by page, owner, grants, comment; and the number of large objects."""
    with ThreadPoolExecutor(2) as pool:
        sides = list(pool.map(_large_objects, (source, target), (seeds, seeds)))
    return compare_maps("large object", sides[0], sides[1]), len(sides[0])
