"""Gates about what surrounds the servers: clocks, time zone, certificate, DNS, mail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from .plan_facts import Facts
from .plan_gate import Gate, Severity, failed, passed
from .plan_settings import PlanSettings

_ASN1 = re.compile(r"\d{14}Z", re.ASCII)


def clock_gates(clock: list[Facts] | None, sides: Mapping[str, Facts], settings: PlanSettings) -> list[Gate]:
    """Every server's clock agrees with the control node's, and NTP keeps it so."""
    gates: list[Gate] = []
    limit = settings.clock_skew_seconds
    if not clock:
        gates.append(
            failed(
                "clock-skew",
                "How far the servers' clocks are off is unknown",
                "Ask each server for its time and run again",
                measured=None,
                limit=limit,
            )
        )
    for entry in clock or []:
        host = entry.text("host") or "a server without a name"
        epoch, asked, answered = (entry.number(name) for name in ("epoch", "asked_at", "answered_at"))
        gate = f"clock-skew-{host}"
        if epoch is None or asked is None or answered is None or answered < asked:
            gates.append(
                failed(
                    gate,
                    f"How far the clock of {host} is off is unknown",
                    f"Ask {host} for its time and run again",
                    measured=None,
                    limit=limit,
                )
            )
            continue
        # The answer was made somewhere between the question and its arrival: only what lies outside is certainly off.
        off = max(asked - epoch, epoch - answered, 0.0)
        if off > limit:
            gates.append(
                failed(
                    gate,
                    f"The clock of {host} is off by at least {off:.1f} s",
                    f"Set the clock of {host} by NTP",
                    measured=round(off, 3),
                    limit=limit,
                )
            )
        elif answered - asked > max(limit, 1.0) * 4:
            gates.append(
                failed(
                    gate,
                    f"{host} took {answered - asked:.1f} s to tell its time, too long to compare clocks",
                    "Run again when the network is quick",
                    measured=round(answered - asked, 3),
                    limit=limit,
                )
            )
        else:
            gates.append(
                passed(
                    gate,
                    f"The clock of {host} is off by at most {max(epoch - asked, answered - epoch):.1f} s",
                    measured=round(off, 3),
                    limit=limit,
                )
            )
    severity: Severity = "refuse" if settings.ntp_required else "warn"
    for side, facts in sides.items():
        gate = f"ntp-{side.replace(' ', '-')}"
        synchronised = facts.flag("server", "ntp_synchronised")
        if synchronised:
            gates.append(
                passed(gate, f"The {side}'s clock is kept by NTP", measured=True, limit=True, severity=severity)
            )
        else:
            happened = (
                f"Whether NTP keeps the {side}'s clock is unknown"
                if synchronised is None
                else f"NTP does not keep the {side}'s clock"
            )
            gates.append(
                failed(
                    gate,
                    happened,
                    f"Start chrony or systemd-timesyncd on the {side}",
                    measured=synchronised,
                    limit=True,
                    severity=severity,
                )
            )
    return gates


def time_zone_gate(source: Facts, target: Facts) -> Gate:
    """Both servers live in one time zone."""
    zones = (source.text("server", "timezone"), target.text("server", "timezone"))
    if zones[0] is None or zones[1] is None:
        return failed(
            "time-zone",
            f"The time zone of the {'source' if zones[0] is None else 'target'} is unknown",
            "Make the server reachable and run again",
            measured=None,
            limit=zones[0],
        )
    if zones[0] != zones[1]:
        return failed(
            "time-zone",
            f"The target's time zone is {zones[1]}, the source's is {zones[0]}",
            f"Set the target's time zone: timedatectl set-timezone {zones[0]}",
            measured=zones[1],
            limit=zones[0],
        )
    return passed(
        "time-zone", f"Source and target are both in the time zone {zones[0]}", measured=zones[1], limit=zones[0]
    )


def certificate_gates(certificate: Facts, public_name: str, now: datetime, settings: PlanSettings) -> list[Gate]:
    """The target's certificate is for the public name, is signed by someone trusted, and is in force long enough."""
    action = "Give the target a certificate for the public name"
    names = certificate.items("subject_alt_name")
    given = [str(name.content) for name in names or []]
    hosts = [name[4:].lower() for name in given if name.startswith("DNS:")]
    if names is None:
        gates = [
            failed("certificate-name", "The target's certificate is unknown", action, measured=None, limit=public_name)
        ]
    elif not any(_covers(host, public_name.lower()) for host in hosts):
        gates = [
            failed(
                "certificate-name",
                f"The target's certificate is for {', '.join(hosts) or 'no name'}, not for {public_name}",
                action,
                measured=", ".join(hosts),
                limit=public_name,
            )
        ]
    else:
        gates = [
            passed(
                "certificate-name",
                f"The target's certificate is for {public_name}",
                measured=", ".join(hosts),
                limit=public_name,
            )
        ]
    verified = certificate.flag("chain_verified")
    if verified:
        gates.append(
            passed(
                "certificate-chain",
                "The target's certificate is signed by a trusted authority",
                measured=True,
                limit=True,
            )
        )
    else:
        happened = (
            "Who signed the target's certificate is unknown"
            if verified is None
            else "The target's certificate is not signed by a trusted authority"
        )
        gates.append(
            failed(
                "certificate-chain",
                happened,
                "Give the whole chain, and the authority clients trust",
                measured=verified,
                limit=True,
            )
        )
    return [*gates, _in_force(certificate, now, settings)]


def dns_gates(dns: Facts) -> list[Gate]:
    """Every authoritative server answers the same, and we may change the record there."""
    in_step = dns.flag("in_step")
    stale = ", ".join(str(name.content) for name in dns.items("stale") or [])
    if in_step:
        gates = [
            passed(
                "dns-in-step",
                f"All {len(dns.items('servers') or [])} authoritative name servers answer the same",
                measured=True,
                limit=True,
            )
        ]
    else:
        happened = (
            dns.text("msg") or "What the authoritative name servers answer is unknown"
            if in_step is None
            else f"The authoritative name servers disagree or are silent: {stale}"
        )
        gates = [
            failed("dns-in-step", happened, "Mend the zone transfer or the server named", measured=in_step, limit=True)
        ]
    right = dns.part("update_right")
    allowed = right.flag("allowed")
    if allowed:
        gates.append(
            passed(
                "dns-rights",
                right.text("message") or "The key may change the record",
                measured=right.text("answer"),
                limit="NOERROR",
            )
        )
    else:
        happened = right.text("message") or "Whether the key may change the record is unknown"
        gates.append(
            failed(
                "dns-rights",
                happened,
                "Correct the key, or let the name server take updates of this record from it",
                measured=right.text("answer"),
                limit="NOERROR",
            )
        )
    return gates


def address_gates(addresses: Facts) -> list[Gate]:
    """Both servers by IPv4 address: the new server's firewall and the public name's A record take nothing else.

    ``addresses``: ``{source, target}``.
    """
    gates = []
    for side in ("source", "target"):
        gate, address = f"address-{side}", addresses.text(side)
        try:
            IPv4Address(address or "")
        except ValueError:
            gates.append(
                failed(
                    gate,
                    f"The {side}'s address is {address or 'not given'}, which is no IPv4 address",
                    f"Set the server's ansible_host, or shared_to_dedicated_{side}_address, to its IPv4 address",
                    measured=address,
                    limit="IPv4",
                )
            )
        else:
            gates.append(passed(gate, f"The {side}'s address is {address}", measured=address, limit="IPv4"))
    return gates


def mail_gates(mail: list[Facts] | None) -> list[Gate]:
    """The relay takes a mail to each recipient."""
    if not mail:
        return [
            failed(
                "mail-rights",
                "Whether the mail relay takes our mails is unknown",
                "Ask it and run again",
                measured=None,
                limit="accepted",
            )
        ]
    gates = []
    for number, answer in enumerate(mail, start=1):
        recipient = answer.text("recipient") or f"recipient {number}"
        gate = f"mail-rights-{number}"
        if answer.flag("failed") is not True and answer.text("answer"):
            gates.append(
                passed(
                    gate,
                    f"The relay takes mails to {recipient}: {answer.text('answer')}",
                    measured=answer.text("answer"),
                    limit="accepted",
                )
            )
        else:
            # The module's sentence without check and next step, which the gate says again.
            happened = (answer.text("msg") or "").split(f" ({answer.text('check')}).")[0]
            happened = happened or f"Whether the relay takes mails to {recipient} is unknown"
            gates.append(
                failed(
                    gate,
                    happened,
                    answer.text("action") or "Let the relay accept this host, sender and recipient",
                    measured=answer.text("answer"),
                    limit="accepted",
                )
            )
    return gates


def _in_force(certificate: Facts, now: datetime, settings: PlanSettings) -> Gate:
    gate, limit = "certificate-expiry", settings.certificate_margin_days
    begins, ends = (_instant(certificate.text(name)) for name in ("not_before", "not_after"))
    if begins is None or ends is None:
        return failed(
            gate,
            "How long the target's certificate is in force is unknown",
            "Give the target a certificate",
            measured=None,
            limit=limit,
        )
    days = round((ends - now) / timedelta(days=1), 1)
    if begins > now:
        return failed(
            gate,
            f"The target's certificate is not in force before {begins:%Y-%m-%d %H:%M} UTC",
            "Use one that is in force",
            measured=days,
            limit=limit,
        )
    if days < limit:
        return failed(
            gate,
            f"The target's certificate ends in {days} days, at least {limit:g} are wanted",
            "Renew it first",
            measured=days,
            limit=limit,
        )
    return passed(gate, f"The target's certificate is in force for {days} days more", measured=days, limit=limit)


def _instant(text: str | None) -> datetime | None:
    if text is None or not _ASN1.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _covers(pattern: str, name: str) -> bool:
    """RFC 6125: a ``*`` stands for exactly the whole leftmost label."""
    if pattern.startswith("*."):
        return "." in name and name.split(".", 1)[1] == pattern[2:]
    return pattern == name
