# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tenants of shared01: who they are, the files of each, how their data is made once and put back quickly."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from lab import credentials
from lab.checkout import DOMAIN, PREFIX, STATE, LabError
from lab.hosts import Host, execute
from lab.podman import inspect, podman

_LAB = Path(__file__).parent
_STANDIN = _LAB / "standin"
_GENERATOR = _LAB / "generate.py"
_ADMIN = "/opt/ireporter-standin/bin/ireporter-standin-admin"
_POSTGRES = "host=/var/run/postgresql user=postgres"
_LIVE = ("postgresql", "postgresql-settings", "trees")
_PRISTINE = f"{PREFIX}-pristine"
_RESTORING = STATE / "restoring"


@dataclass(frozen=True)
class Tenant:
    """One tenant of the shared server."""

    name: str
    accounts: int
    uid: int
    smoke_user: str = "smoke"
    webdav_user: str = "webdav"

    @property
    def public_name(self) -> str:
        """The name its tablets use."""
        return f"{self.name}.{DOMAIN}"

    @property
    def certificate_names(self) -> list[str]:
        """The name its tablets use, and one a migration may give it."""
        return [self.public_name, f"{self.name}-dedicated.{DOMAIN}"]

    @property
    def suffix(self) -> str:
        """Of its web application's name."""
        return self.name.upper()

    @property
    def database(self) -> str:
        """On the shared server."""
        return f"irepodb_{self.name}"

    @property
    def user(self) -> str:
        """The system user its application runs as."""
        return f"ireporter-{self.name}"

    @property
    def units(self) -> tuple[str, ...]:
        """What systemd runs for it."""
        return (f"ireporter-standin@{self.name}.service", f"ireporter-report@{self.name}.timer")

    def secret(self, purpose: str) -> str:
        """Its password for ``app``, ``owner``, ``report`` (database roles), ``users``, ``smoke`` (application) or ``webdav``."""
        return credentials.secret(f"{self.name}-{purpose}")


TENANTS = (Tenant("acme", 120, 2001), Tenant("bravo", 40, 2002), Tenant("charlie", 15, 2003))
_NEIGHBOUR_GIGABYTES = 0.05
_NEIGHBOUR_FILES = 500


@dataclass(frozen=True)
class Size:
    """How much data acme has; its neighbours are always small."""

    gigabytes: float = 0.05
    files: int = 2000


@dataclass(frozen=True)
class Package:
    """The stand-in as a Debian package."""

    file: Path
    sha256: str

    @property
    def version(self) -> str:
        """As its name has it."""
        return self.file.stem.split("_")[1]


def build_package() -> Package:
    """Build the stand-in's package (the same bytes from the same source)."""
    completed = subprocess.run(
        [_STANDIN / "build-deb", STATE / "packages"], capture_output=True, text=True, check=False
    )
    if completed.returncode != 0:
        raise LabError(f"The stand-in's package cannot be built: {completed.stderr.strip()}")
    digest, name = completed.stdout.splitlines()[-1].split(maxsplit=1)
    return Package(Path(name), digest)


def files(package: Package) -> dict[str, tuple[bytes, int]]:
    """What shared01 has for its tenants: content and mode by path."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    found = {"/var/cache/lab/ireporter-standin.deb": (package.file.read_bytes(), 0o644)}
    for tenant in TENANTS:

        def rendered(name: str, tenant: Tenant = tenant) -> bytes:
            return (
                environment.from_string((_LAB / "servers" / "tenant" / name).read_text()).render(tenant=tenant).encode()
            )

        made = credentials.certificate(tenant.certificate_names)
        folder = f"/etc/ireporter/{tenant.name}"
        found |= {
            f"{folder}/server.toml": (rendered("server.toml"), 0o640),
            f"{folder}/pgpass": (rendered("pgpass"), 0o600),
            f"{folder}/certificate.crt": (made.certificate.read_bytes(), 0o644),
            f"{folder}/certificate.key": (made.key.read_bytes(), 0o600),
            f"{folder}/webdav.htpasswd": (webdav_accounts(tenant).read_bytes(), 0o640),
            f"/etc/nginx/sites-enabled/ireporter-{tenant.name}.conf": (rendered("site.conf"), 0o644),
        }
    return found


def webdav_accounts(tenant: Tenant) -> Path:
    """The tenant's WebDAV password file for nginx, on the control node."""
    salt = hashlib.sha256(tenant.secret("webdav-salt").encode()).digest()[:8]
    hashed = base64.b64encode(hashlib.sha1(tenant.secret("webdav").encode() + salt).digest() + salt).decode()
    return credentials.keep(f"webdav/{tenant.name}.htpasswd", f"{tenant.webdav_user}:{{SSHA}}{hashed}\n")


def licence(tenant: Tenant, hostname: str) -> Path:
    """A licence of the stand-in for another server, on the control node."""
    return credentials.keep(f"licences/{tenant.name}-{hostname}.xml", _issue(tenant, hostname))


def what_is_missing(image: str, wanted: Size | None) -> str | None:
    """Decide before shared01 comes up whether its data can stay.

    :param wanted: ``None`` takes what is there, whatever its size.
    :return: ``None`` (nothing is missing), ``restored`` (the picture has to be put back) or ``generated`` (there is none of use).
    """
    known = _made()
    if known is None or known["fingerprint"] != _fingerprint(image) or (wanted and known["size"] != asdict(wanted)):
        return "generated"
    if _RESTORING.exists() or any(inspect("volume", f"{PREFIX}-{name}") is None for name in _LIVE):
        return "restored"
    return None


def _issue(tenant: Tenant, hostname: str) -> str:
    return subprocess.run(
        [
            *(sys.executable, str(_STANDIN / "bin" / "ireporter-standin-admin"), "issue-licence"),
            *("--hostname", hostname, "--maximum-users", "200", "--customer", tenant.name),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def generate(shared: Host, image: str, size: Size) -> None:
    """Make every tenant's data in a running, empty shared01, keep a picture of it, start the applications."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda tenant: _fill(shared, tenant, size), TENANTS))
    execute(shared, "systemctl", "stop", "postgresql@15-main.service")
    pristine = _mountpoint(_PRISTINE)
    for name in _LIVE:
        _copy(_mountpoint(f"{PREFIX}-{name}"), pristine / name)
    (pristine / "made.json").write_text(json.dumps({"fingerprint": _fingerprint(image), "size": asdict(size)}))
    execute(shared, "systemctl", "start", "postgresql@15-main.service")
    execute(shared, "systemctl", "enable", "--quiet", "--now", *(unit for tenant in TENANTS for unit in tenant.units))


def described() -> str:
    """What data shared01 was given, in one line."""
    known = _made()
    if known is None:
        return "no data"
    size = Size(**known["size"])  # type: ignore[arg-type]
    return f"acme with {size.gigabytes} GB and {size.files} files; {', '.join(tenant.name for tenant in TENANTS[1:])}"


def discard() -> None:
    """Empty shared01's data and forget the picture; only while its container does not exist."""
    for name in (*_LIVE, "pristine"):
        podman("volume", "rm", "--force", f"{PREFIX}-{name}")
    _RESTORING.unlink(missing_ok=True)


def restore() -> None:
    """Put the picture back; only while shared01's container does not exist."""
    _RESTORING.touch()
    pristine = _mountpoint(_PRISTINE)
    for name in _LIVE:
        live = _mountpoint(f"{PREFIX}-{name}")
        _copy(pristine / name, live)
    _RESTORING.unlink()


def _fill(shared: Host, tenant: Tenant, size: Size) -> None:
    home = f"/srv/ireporter/{tenant.name}"
    folder = f"/etc/ireporter/{tenant.name}"
    if tenant.name != "acme":
        size = Size(_NEIGHBOUR_GIGABYTES, _NEIGHBOUR_FILES)
    own = ("install", "-d", "-o", tenant.user, "-g", tenant.user, "-m")
    execute(shared, *own, "0750", home, f"{home}/output", f"{home}/settings")
    execute(shared, *own, "2770", f"{home}/webdav")  # nginx writes here as a member of the tenant's group
    execute(
        shared,
        *(_ADMIN, "create-database", "--admin", f"{_POSTGRES} dbname=postgres", "--database", tenant.database),
        *("--prefix", tenant.name, "--pgpass", f"{folder}/pgpass"),
    )
    # Passwords go in on standard input, never on a command line.
    generator = f"/run/lab-generate-{tenant.name}.py"
    execute(shared, "tee", generator, stdin=_GENERATOR.read_bytes())
    secret_file = f"/run/lab-users-{tenant.name}"
    execute(shared, "sh", "-c", f"umask 077; cat > {secret_file}", stdin=tenant.secret("users").encode())
    execute(
        shared,
        *("/usr/bin/python3", generator, "--database", f"{_POSTGRES} dbname={tenant.database}", "--trees", home),
        *("--accounts", str(tenant.accounts), "--gigabytes", str(size.gigabytes), "--files", str(size.files)),
        *("--seed", str(tenant.uid), "--owner", tenant.user, "--password-file", secret_file),
        timeout_seconds=7200,
    )
    execute(shared, "rm", generator, secret_file)
    execute(
        shared,
        *(_ADMIN, "add-user", "--database", f"{_POSTGRES} dbname={tenant.database}", "--login", tenant.smoke_user),
        *("--type", "service"),
        stdin=tenant.secret("smoke").encode(),
    )
    install = f"install -D -o {tenant.user} -g {tenant.user} -m 0640 /dev/stdin {home}/settings/xml/License.xml"
    execute(shared, "sh", "-c", install, stdin=_issue(tenant, shared.name).encode())


def _fingerprint(image: str) -> str:
    """Changes with whatever makes a kept picture useless: other passwords, another generator, another PostgreSQL."""
    parts = [image.encode(), repr(TENANTS).encode(), _GENERATOR.read_bytes(), (_STANDIN / "schema.sql").read_bytes()]
    parts += [
        tenant.secret(purpose).encode()
        for tenant in TENANTS
        for purpose in ("app", "owner", "report", "users", "smoke")
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _made() -> dict[str, object] | None:
    if inspect("volume", _PRISTINE) is None:
        return None
    path = _mountpoint(_PRISTINE) / "made.json"
    return json.loads(path.read_text()) if path.exists() else None


def _mountpoint(volume: str) -> Path:
    if inspect("volume", volume) is None:
        podman("volume", "create", volume)
    return Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip())


def _copy(source: Path, target: Path) -> None:
    """Replace ``target`` by an exact copy: owners, times, links, holes, ACLs, attributes."""
    subprocess.run(["rm", "-rf", "--", str(target)], check=True)
    subprocess.run(["cp", "--archive", "--sparse=auto", "--reflink=auto", str(source), str(target)], check=True)
