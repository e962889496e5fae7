"""A tenant with nothing in it moves like any other."""

from __future__ import annotations

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.promise("A tenant without rows and files moves like any other"),
]

# What is left is the smoke client's account, without which no server could be proved.
EMPTY = """
DO $$
DECLARE name regclass;
BEGIN
  FOR name IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relname NOT IN ('mst_user', 'mst_group') LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', name);
    EXECUTE format('DELETE FROM %s', name);
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', name);
  END LOOP;
  DELETE FROM mst_user WHERE login_id <> 'smoke';
END $$
"""


def test_it_moves(lab: Lab) -> None:
    lab.reset()
    lab.sql("shared01", "irepodb_acme", EMPTY)
    lab.on("shared01", "find /srv/ireporter/acme/output /srv/ireporter/acme/webdav -mindepth 1 -delete")
    played = lab.play("shared_to_dedicated", "-e", "shared_to_dedicated_accounts_threshold=0")
    assert played.returncode == 0, played.output[-5000:]
    assert lab.serves("dedicated01")
    assert lab.sql("dedicated01", "irepodb_acme", "SELECT count(*) FROM mst_user") == "1"
    # Where the tenant's own scheduled job writes, on whichever server it runs.
    assert lab.on("dedicated01", "ls -A /srv/ireporter/acme/output").split() in ([], ["集計"])
    assert lab.leftovers() == ""
