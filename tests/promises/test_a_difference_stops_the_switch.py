"""A difference between source and target is named, nothing is switched, and the tenant serves from the shared server again."""

from __future__ import annotations

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("Any difference stops the switch and is named; the tenant serves from the shared server again"),
]

VERIFY = "Verify | Source against target, everything"
DIFFERENCES = {
    "row": (
        "psql -XqU postgres -d irepodb_acme -c \"UPDATE mst_group SET group_name = group_name || 'x' WHERE ctid = (SELECT min(ctid) FROM mst_group)\"",
        "object: public.mst_group",
    ),
    "sequence": (
        "psql -XqU postgres -d irepodb_acme -c \"SELECT nextval('seq_report_no')\"",
        "object: public.seq_report_no",
    ),
    "grant": (
        'psql -XqU postgres -d irepodb_acme -c "REVOKE SELECT ON rep_top FROM acme_report"',
        "object: ACL public.TABLE rep_top",
    ),
    "index": (
        'psql -XqU postgres -d irepodb_acme -c "DROP INDEX rep_top_update_time"',
        "object: INDEX public.rep_top_update_time",
    ),
    "file": (
        'f=$(find /srv/ireporter/acme/output -type f -size +0 | sort | head -1); printf x >> "$f"',
        "kind: content",
    ),
    "mode": ('f=$(find /srv/ireporter/acme/output -type f | sort | head -1); chmod 0611 "$f"', "kind: mode"),
}


@pytest.fixture(scope="module")
def prepared(lab: Lab) -> Lab:
    lab.prepare()
    return lab


# All at once in every run, each alone only with --all. The integration tests find each kind alone in seconds.
@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([*DIFFERENCES], id="all"),
        *(pytest.param([kind], id=kind, marks=pytest.mark.slow) for kind in DIFFERENCES),
    ],
)
def test_a_change_on_the_target_between_copy_and_verify(prepared: Lab, kinds: list[str]) -> None:
    command = "\n".join(DIFFERENCES[kind][0] for kind in kinds)
    played = prepared.play_and_at(
        VERIFY, prepared.on_command("dedicated01", command), "shared_to_dedicated", "--tags", "cut_over"
    )
    assert played.returncode != 0
    for kind in kinds:
        assert DIFFERENCES[kind][1] in played.output, f"{kind} is not named: {played.output[-4000:]}"
    assert "serves from shared01 again" in played.output
    assert prepared.serves("shared01")
    assert not prepared.serves("dedicated01")
    assert prepared.run_record("shared01")["status"] == "undone"
    assert prepared.leftovers() == ""
