"""Gates about the two servers: the tenant is on the source, R14, an empty target, obstacles."""

from __future__ import annotations

from collections.abc import Mapping

from .plan_facts import Facts
from .plan_gate import Gate, failed, passed
from .plan_servers import Servers


def measured_gates(sides: Mapping[str, Facts]) -> list[Gate]:
    """Where measuring a server failed, its own words come first; what is unknown for that reason follows."""
    return [
        failed(f"facts-{side.replace(' ', '-')}", sentence, action, measured=None, limit="measured")
        for side, facts in sides.items()
        if facts.flag("failed") and (sentence := _without_next_step(facts))
        for action in [facts.text("action") or f"Mend this on the {side} and run again"]
    ]


def source_gates(servers: Servers) -> list[Gate]:
    """The tenant is there and serves from the source."""
    state = servers.source.text("state")
    if state is None or state == "absent":
        happened = (
            "The tenant's state on the source is unknown" if state is None else "There is no such tenant on the source"
        )
        return [
            failed(
                "source-state",
                happened,
                "Correct the tenant's name and server in the inventory",
                measured=state,
                limit="open",
            )
        ]
    if state != "open":
        return [
            failed(
                "source-state",
                f"The tenant is {state} on the source",
                "Run the migration: it begins by opening the tenant again",
                measured=state,
                limit="open",
                severity="warn",
            )
        ]
    return [passed("source-state", "The tenant is open on the source", measured=state, limit="open")]


def network_gates(servers: Servers, reachable: list[Facts] | None) -> list[Gate]:
    """R14: a server of its own, in a network of its own, that can be reached the ways the migration needs."""
    source, target = servers.source.text("server", "hostname"), servers.target.text("server", "hostname")
    limit = "two servers"
    if source is None or target is None:
        which = "source" if source is None else "target"
        gates = [
            failed(
                "R14-distinct",
                f"The host name of the {which} is unknown",
                f"Make the {which} reachable and run again",
                rule="R14",
                measured=None,
                limit=limit,
            )
        ]
    elif source == target:
        gates = [
            failed(
                "R14-distinct",
                f"Source and target are both {source}",
                "Name the dedicated server as the target",
                rule="R14",
                measured=source,
                limit=limit,
            )
        ]
    else:
        gates = [
            passed(
                "R14-distinct",
                f"Source {source} and target {target} are two servers",
                rule="R14",
                measured=f"{source}, {target}",
                limit=limit,
            )
        ]
    if not reachable:
        gates.append(
            failed(
                "R14-reachable",
                "Which server reaches which is unknown",
                "Try the connections and run again",
                rule="R14",
                measured=None,
                limit="all",
            )
        )
        return gates
    for number, way in enumerate(reachable, start=1):
        name = f"{way.text('from') or '?'} → {way.text('to') or '?'}" + (
            f" ({way.text('what')})" if way.text("what") else ""
        )
        gate = "R14-reachable" if len(reachable) == 1 else f"R14-reachable-{number}"
        if way.flag("reachable"):
            gates.append(passed(gate, f"{name} is reachable", rule="R14", measured=name, limit="reachable"))
        else:
            detail = way.text("detail")
            gates.append(
                failed(
                    gate,
                    f"{name} is not reachable" + (f": {detail}" if detail else ""),
                    "Open this way in the firewalls between the two networks",
                    rule="R14",
                    measured=name,
                    limit="reachable",
                )
            )
    return gates


def empty_gate(servers: Servers) -> Gate:
    """Nothing foreign is on the target: it is empty, or what is there is this tenant's migration."""
    gate, limit = "target-empty", "empty or ours"
    target = servers.target
    state, trees = target.text("state"), target.items("file_trees")
    if state is None or trees is None:
        return failed(
            gate,
            "What is on the target is unknown",
            "Make the target reachable and run again",
            measured=None,
            limit=limit,
        )
    files = 0
    for tree in trees:
        count = 0 if tree.flag("exists") is False else tree.number("files")
        if count is None:
            return failed(
                gate,
                f"How many files {tree.text('path')} on the target has is unknown",
                "Mend what stands in the way there and run again",
                measured=None,
                limit=limit,
            )
        # The target's own licence is put there when the server is provisioned.
        files += max(0, int(count) - (1 if tree.text("name") == _licence_tree(servers) else 0))
    found = (
        [f"the database {target.text('database', 'name') or ''}".strip()] if target.at("database") is not None else []
    ) + ([f"{files} files"] if files else [])
    if not found:
        return passed(gate, "The target is empty: 0 databases and 0 files of a tenant", measured="empty", limit=limit)
    said = " and ".join(found)
    if servers.target_ours is True:
        return passed(gate, f"The target holds {said} of this migration", measured="ours", limit=limit)
    return failed(
        gate,
        f"The target holds {said}, and no record says they are of this migration",
        "Look whose data they are; use an empty server, or move them away by hand",
        measured=said,
        limit=limit,
    )


def obstacle_gates(sides: Mapping[str, Facts]) -> list[Gate]:
    """What the servers themselves report as standing in the way."""
    gates = []
    for side, facts in sides.items():
        obstacles = facts.items("obstacles")
        if obstacles is not None and side == "target":
            # The copy makes the database; a provisioned target has none before.
            obstacles = [obstacle for obstacle in obstacles if obstacle.text("check") != "database-missing"]
        if obstacles is None:
            gates.append(
                failed(
                    f"obstacles-{side}",
                    f"What stands in the way on the {side} is unknown",
                    f"Make the {side} reachable and run again",
                    measured=None,
                    limit=0,
                )
            )
        elif not obstacles:
            gates.append(passed(f"obstacles-{side}", f"0 obstacles on the {side}", measured=0, limit=0))
        else:
            gates += [
                failed(
                    f"obstacle-{side}-{obstacle.text('check') or 'unnamed'}",
                    obstacle.text("message") or f"The {side} reports an obstacle without a message",
                    obstacle.text("action") or "Look at the server",
                    measured=obstacle.text("check"),
                    limit="no obstacle",
                )
                for obstacle in obstacles
            ]
    return gates


def _without_next_step(facts: Facts) -> str:
    """A module's message without its check and next step, which the gate says itself."""
    return (facts.text("msg") or "").split(f" ({facts.text('check')}).")[0]


def _licence_tree(servers: Servers) -> str | None:
    return servers.tenants[-1].text("licence_file", "tree") if servers.tenants else None
