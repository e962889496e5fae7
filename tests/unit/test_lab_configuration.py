"""Tests of what the lab's hosts are made of: rendered from the templates as ``script/lab up`` renders them."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography import x509

from lab import configuration, credentials, hosts, tenants
from lab.networks import Networks

NETWORKS = Networks(*(IPv4Network(f"10.{number}.0.0/24") for number in range(1, 6)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, hosts.Configuration]:
    """Every host's configuration, with the secrets of an empty state."""
    state = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "STATE", state)
        (state / "package.deb").write_bytes(b"package")
        more = {"shared01": tenants.files(tenants.Package(state / "package.deb", "0"))}
        return {host.name: configuration.configuration(host, NETWORKS, more.get(host.name)) for host in hosts.HOSTS}


@pytest.mark.parametrize("name", [host.name for host in hosts.HOSTS])
def test_every_script_is_bash(made: dict[str, hosts.Configuration], name: str) -> None:
    subprocess.run(["bash", "-n"], input=made[name].script, text=True, check=True)


@pytest.mark.parametrize("name", ["dedicated01", "selfhost01"])
def test_a_server_to_move_to_is_bare(made: dict[str, hosts.Configuration], name: str) -> None:
    own = {path for path in made[name].files if path == "/root/identity"}  # the customer's key
    assert bool(own) == (name == "selfhost01")
    assert {Path(path).parts[1] for path in set(made[name].files) - own} == {"etc", "home", "usr"}
    assert not [path for path in made[name].files if "postgresql" in path or "nginx" in path]
    assert hosts.host(name).image == "base"


def test_hosts_that_are_bare_share_no_package_cache(made: dict[str, hosts.Configuration]) -> None:
    """Two playbooks at once would wait for each other's apt."""
    volumes = [volume.split(":")[0] for host in hosts.HOSTS for volume in host.volumes]
    assert len(set(volumes)) == len(volumes)


def test_the_delivery_host_has_a_certificate_of_its_own(made: dict[str, hosts.Configuration]) -> None:
    files = made["delivery01"].files
    certificate = x509.load_pem_x509_certificate(files["/etc/ssl/private-delivery01.crt"][0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["delivery01.ireporter.example"]
    assert files["/etc/ssl/private-delivery01.key"][1] == 0o600


def test_the_zone_names_the_vendors_hosts_and_no_customers(made: dict[str, hosts.Configuration]) -> None:
    zone = made["ns1"].files["/var/lib/bind/ireporter.example.zone"][0].decode().splitlines()
    assert [line.split() for line in zone if line.startswith("delivery01 ")] == [["delivery01", "A", "10.4.0.10"]]
    assert not [line for line in zone if "selfhost01" in line]


def test_secrets_are_for_their_owner_only(made: dict[str, hosts.Configuration]) -> None:
    for configured in made.values():
        for path, (content, mode) in configured.files.items():
            if b"PRIVATE KEY" in content or path.endswith(("pgpass", "htpasswd")) or b"secret" in content:
                assert mode & 0o007 == 0, path


def test_each_tenant_has_its_own_database_roles_and_site(made: dict[str, hosts.Configuration]) -> None:
    files = made["shared01"].files
    passwords = set()
    for tenant in tenants.TENANTS:
        server = tomllib.loads(files[f"/etc/ireporter/{tenant.name}/server.toml"][0].decode())
        assert server["suffix"] == tenant.name.upper()
        assert f"dbname=irepodb_{tenant.name} user={tenant.name}_app" in server["database"]
        lines = files[f"/etc/ireporter/{tenant.name}/pgpass"][0].decode().splitlines()
        assert [line.split(":")[3] for line in lines] == [
            f"{tenant.name}_{role}" for role in ("app", "owner", "report")
        ]
        passwords |= {line.split(":")[4] for line in lines}
        site = files[f"/etc/nginx/sites-enabled/ireporter-{tenant.name}.conf"][0].decode()
        assert f"include /etc/nginx/ireporter/{tenant.name}.gate*.conf;" in site
    assert len(passwords) == 3 * len(tenants.TENANTS)


def test_the_zone_points_the_tenants_at_the_shared_server(made: dict[str, hosts.Configuration]) -> None:
    zone = made["ns1"].files["/var/lib/bind/ireporter.example.zone"][0].decode().splitlines()
    for tenant in tenants.TENANTS:
        assert [line.split() for line in zone if line.startswith(f"{tenant.name} ")] == [
            [tenant.name, "20", "A", "10.1.0.10"]
        ]
    assert "/var/lib/bind/ireporter.example.zone" not in made["ns2"].files


def test_a_changed_file_or_mode_changes_the_digest(made: dict[str, hosts.Configuration]) -> None:
    one = made["mail01"]
    other = hosts.Configuration({**one.files, "/etc/motd": (b"", 0o644)}, one.script)
    third = hosts.Configuration({**one.files, "/etc/motd": (b"", 0o600)}, one.script)
    assert len({one.digest(), other.digest(), third.digest()}) == 3


def test_the_archive_holds_the_files_as_root(made: dict[str, hosts.Configuration]) -> None:
    with tarfile.open(fileobj=io.BytesIO(made["ns2"].archive())) as archive:
        members = {f"/{member.name}": member for member in archive.getmembers()}
    assert set(members) == set(made["ns2"].files)
    assert {member.uid for member in members.values()} == {0}
    assert members["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600


def test_an_unknown_host_is_named_with_the_known_ones() -> None:
    with pytest.raises(hosts.LabError, match=r"no host shared02.*shared01, dedicated01"):
        hosts.host("shared02")
