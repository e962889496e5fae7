"""A tenant on this very server, with everything through which it is looked at and changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .clock import Clock, SystemClock
from .commands import Runner, run
from .errors import MigrationError
from .freeze_record import Records
from .gate import GateKeeper
from .lease import Lease
from .tenant_http import TenantHttp, client
from .tenant_model import STATE_DIRECTORY, Tenant
from .tenant_trees import Trees
from .tenant_units import Units

if TYPE_CHECKING:
    from .tenant_database import Database


@dataclass(frozen=True)
class Server:
    """What the freeze works on; tests pass fakes."""

    tenant: Tenant
    clock: Clock
    run: Runner
    units: Units
    database: Database
    web: TenantHttp
    gate: GateKeeper
    trees: Trees
    lease: Lease
    records: Records


def this_server(tenant: Tenant, *, state_directory: Path = STATE_DIRECTORY) -> Server:
    """The real one.

    :raises MigrationError: python3-psycopg is missing (check ``server-programs``).
    """
    try:
        from .tenant_database import Database  # noqa: PLC0415
    except ImportError as error:
        raise MigrationError(
            f"python3-psycopg is not installed on this server: {error}",
            check="server-programs",
            action="Apply the role ireporter_migration_tools to this server",
        ) from error
    clock = SystemClock()
    web = client(tenant)
    return Server(
        tenant=tenant,
        clock=clock,
        run=run,
        units=Units(run, clock),
        database=Database(tenant, clock),
        web=web,
        gate=GateKeeper(tenant, run, clock, web),
        trees=Trees(run),
        lease=Lease(tenant.name, run, clock),
        records=Records(state_directory, tenant.name, clock),
    )
