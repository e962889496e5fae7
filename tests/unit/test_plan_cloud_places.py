"""Where an export is made, put and imported: room, the customer's versions, the customer's key."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ireporter.plan_cloud_export import plan_cloud_export
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings

from tests.unit.cloud_export_example import changed, failed, good, good_facts, with_fact
from tests.unit.test_plan import GB

MOVED = GB + 1000


@pytest.mark.parametrize(
    ("device", "name", "needed"),
    [
        # Dump, files and bundle on one file system, the picture on another.
        (2, "disk-source-dump", 2 * GB + MOVED + 2 * GB + MOVED),
        # All of it on one.
        (1, "disk-source-picture", 2 * GB + 2 * GB + MOVED + 2 * GB + MOVED),
    ],
)
def test_room_is_added_up_by_file_system(device: int, name: str, needed: int) -> None:
    facts = changed(good_facts(), device, "source", "server", "disks", 1, "device")
    wanted = int(needed * 1.2)
    for room, passes in ((wanted - 1, False), (wanted, True)):
        for disk in facts["source"]["server"]["disks"]:
            if disk["device"] == device:
                disk["free_bytes"] = room
        found = failed(replace(good(), facts=Facts(facts)))
        assert list(found) == ([] if passes else [name])


def test_a_folder_of_its_own_for_the_export_counts_instead() -> None:
    facts = changed(good_facts(), 0, "source", "server", "disks", 1, "free_bytes")
    assert list(failed(replace(good(), facts=Facts(facts)))) == ["disk-source-dump"]
    disk = {"purpose": "export", "path": "/export", "free_bytes": 100 * GB, "device": 3}
    facts["source"]["server"]["disks"].append(disk)
    assert failed(replace(good(), facts=Facts(facts))) == {}


def test_the_delivery_host_holds_the_bundle() -> None:
    wanted = int((2 * GB + MOVED) * 1.2)
    for room, found in ((wanted - 1, ["disk-delivery-host-bundle"]), (wanted, [])):
        assert list(failed(with_fact(room, "delivery", "server", "disks", 0, "free_bytes"))) == found
    assert "unknown" in failed(with_fact([], "delivery", "server", "disks"))["disk-delivery-host-bundle"]
    # Sizes of dump and bundle are settings.
    small = replace(
        with_fact(wanted - 1, "delivery", "server", "disks", 0, "free_bytes"), settings=PlanSettings(bundle_factor=0.9)
    )
    assert failed(small) == {}


@pytest.mark.parametrize(
    ("version", "passes"),
    [
        (15, True),
        ("15", True),
        ("16.3", True),
        (16.3, True),
        ("14.9", False),
        (None, False),
        ("x", False),
        (True, False),
    ],
)
def test_postgresql_of_the_customer_is_at_least_the_source_s(version: object, passes: bool) -> None:
    side = {"postgresql_version": version, "application_version": "8.2.26020"}
    assert list(failed(replace(good(), import_side=side))) == ([] if passes else ["postgresql-version"])


@pytest.mark.parametrize(
    ("version", "passes"),
    [("8.2.26020", True), ("8.2.26030", True), ("8.10.1", True), ("8.2.26010", False), ("", False), (None, False)],
)
def test_the_application_of_the_customer_is_at_least_the_source_s(version: object, passes: bool) -> None:
    side = {"postgresql_version": 16, "application_version": version}
    assert list(failed(replace(good(), import_side=side))) == ([] if passes else ["application-version"])


@pytest.mark.parametrize("key", [None, "", "canary", "AGE-SECRET-KEY-1CANARY", "age1canary", 1])
def test_a_key_of_no_use_is_refused_and_stands_nowhere_in_the_result(key: object) -> None:
    given = replace(good(), public_key=key)
    assert list(failed(given)) == ["public-key"]
    assert "canary" not in json.dumps(plan_cloud_export(given)).lower()
