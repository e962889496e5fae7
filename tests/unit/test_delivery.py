"""Delivered files: which link they have, how long, and what becomes of them; on real files, with a clock that is set."""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import delivery_expiry
from ireporter.delivery import Delivery, Places, Published, Wanted, japan_text, utc_text
from ireporter.delivery_expiry import delete_expired
from ireporter.delivery_link import NAME, checked_name, new_identity, new_secret_file, secret_in, token
from ireporter.delivery_record import DeliveryRecords
from ireporter.errors import MigrationError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b"ciphertext" * 1000
WEEK = 7 * 86400


class SetClock:
    """The wall clock stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_795_774_416

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return float(self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += int(seconds)


class Host:
    """A delivery host below a folder of the test; ``proven`` are the links that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.places = Places(
            folder / "srv", folder / "records", folder / "nginx" / "secret.conf", grp.getgrgid(os.getgid()).gr_name
        )
        self.delivery = Delivery(self.places, self.clock)
        self.records = self.delivery.records
        self.proven: list[tuple[str, int]] = []
        self.wanted = Wanted("delivery.example.com", WEEK)
        self.bundle = self.places.files / "acme" / "acme.tar.zst.age"

    def publish(self, *, check: bool = False, **changes: object) -> Published:
        def prove(link: str, size: int) -> None:
            assert self.served(link).read_bytes() is not None
            self.proven.append((link, size))

        return self.delivery.publish(self.bundle, replace(self.wanted, **changes), prove, check=check)  # type: ignore[arg-type]

    def served(self, link: str) -> Path:
        """Where the site's configuration finds a link's file."""
        _, identity, _expires, _token, name = urlsplit(link).path.split("/")
        return self.places.published / identity / name

    def state(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything on the disk."""
        return {
            str(path): (path.stat().st_mode, path.stat().st_nlink, path.read_bytes() if path.is_file() else b"")
            for path in self.places.folder.parent.rglob("*")
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.delivery.prepare(check=False)
    made.bundle.parent.mkdir()
    made.bundle.write_bytes(CONTENT)
    made.bundle.chmod(0o640)
    return made


def test_a_bare_host_is_prepared_as_check_mode_said_and_then_no_more(tmp_path: Path) -> None:
    host = Host(tmp_path)
    foretold = host.delivery.prepare(check=True)
    assert host.state() == {}
    assert host.delivery.prepare(check=False) == foretold
    assert len(foretold) == 6
    before = host.state()
    assert host.delivery.prepare(check=False) == []
    assert host.state() == before


def test_only_root_reads_secret_files_and_records_and_nginx_lists_nothing(host: Host) -> None:
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (host.places.secret_file, host.places.files, host.places.records, host.places.published)
    }
    assert list(modes.values()) == [0o600, 0o700, 0o700, 0o710]


@pytest.mark.parametrize("what", ["secret_file", "files", "published"])
def test_an_altered_mode_is_put_right(host: Host, what: str) -> None:
    path: Path = getattr(host.places, what)
    before = path.stat().st_mode
    secret = host.places.secret_file.read_text()
    path.chmod(0o777)
    assert len(host.delivery.prepare(check=True)) == 1
    assert len(host.delivery.prepare(check=False)) == 1
    assert path.stat().st_mode == before
    assert host.places.secret_file.read_text() == secret


def test_a_file_gets_a_link_that_nginx_would_take(host: Host) -> None:
    published = host.publish()
    assert published.changed
    assert (published.bytes, published.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert published.expires == host.clock.seconds + WEEK
    parts = urlsplit(published.link)
    assert (parts.scheme, parts.netloc, parts.query) == ("https", "delivery.example.com", "")
    _, identity, expires, given, name = parts.path.split("/")
    secret = secret_in(host.places.secret_file.read_text())
    # As ngx_http_secure_link_module has it: binary MD5 in base64url, of the expression in the site's configuration.
    expected = hashlib.md5(f"{expires} {identity}/{name} {secret}".encode()).digest()
    assert base64.urlsafe_b64decode(given + "==") == expected
    assert host.proven == [(published.link, len(CONTENT))]
    assert host.served(published.link).read_bytes() == CONTENT
    assert stat.S_IMODE(host.served(published.link).parent.stat().st_mode) == 0o710


def test_nothing_but_the_record_and_the_served_folder_knows_the_link(host: Host) -> None:
    published = host.publish()
    _, identity, _expires, given, _name = urlsplit(published.link).path.split("/")
    secret = str(secret_in(host.places.secret_file.read_text()))
    assert [path for path, (_, _, content) in host.state().items() if given.encode() in content] == [
        str(host.places.records / f"{identity}.json")
    ]
    assert [path for path, (_, _, content) in host.state().items() if secret.encode() in content] == [
        str(host.places.secret_file)
    ]
    assert given not in published.why + repr(host.delivery)


def test_published_again_it_keeps_link_and_expiry(host: Host) -> None:
    first = host.publish()
    before = host.state()
    host.clock.sleep(3600)
    again = host.publish(valid_seconds=2 * WEEK)
    assert not again.changed
    assert (again.link, again.expires, again.sha256) == (first.link, first.expires, first.sha256)
    assert host.state() == before
    assert host.proven[-1] == (first.link, len(CONTENT))


def test_check_mode_foretells_and_changes_nothing(host: Host) -> None:
    before = host.state()
    foretold = host.publish(check=True)
    assert foretold.changed
    assert foretold.link == ""
    assert foretold.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert host.state() == before
    assert host.proven == []
    first = host.publish()
    assert host.publish(check=True) == replace(first, changed=False, why="it has its link")


def test_check_mode_before_the_host_is_set_up(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.publish(check=True).changed
    assert not host.delivery.withdraw(host.bundle, check=True)
    with pytest.raises(MigrationError, match=r"holds no secret.*delivery-setup"):
        host.publish()


def expire(host: Host) -> None:
    host.clock.sleep(WEEK)


def replace_file(host: Host) -> None:
    host.bundle.unlink()
    host.bundle.write_bytes(CONTENT)


def write_to_it(host: Host) -> None:
    with host.bundle.open("ab") as stream:
        stream.write(b"x")


def change_secret(host: Host) -> None:
    host.places.secret_file.write_text(new_secret_file())


@pytest.mark.parametrize(
    ("alter", "changes", "why"),
    [
        (expire, {}, "its link expired at 2026-12-04T"),
        (replace_file, {}, "another one than was published"),
        (write_to_it, {}, "another one than was published"),
        (change_secret, {}, "the secret of this host's links is another one"),
        (lambda _host: None, {"renew": True}, "a new link was asked for"),
    ],
    ids=["expired", "replaced", "written to", "another secret", "asked anew"],
)
def test_a_new_link_and_the_old_one_is_dead(host: Host, alter: object, changes: dict[str, object], why: str) -> None:
    first = host.publish()
    alter(host)  # type: ignore[operator]
    assert why in host.publish(check=True, **changes).why
    second = host.publish(**changes)
    assert second.changed
    assert why in second.why
    assert not host.served(first.link).parent.exists()
    assert host.served(second.link).read_bytes() == host.bundle.read_bytes()
    assert [record.identity for record in host.records.all()] == [urlsplit(second.link).path.split("/")[1]]


def lose_served(host: Host, link: str) -> None:
    host.served(link).unlink()


def lose_folder(host: Host, link: str) -> None:
    lose_served(host, link)
    host.served(link).parent.rmdir()


def close_folder(host: Host, link: str) -> None:
    host.served(link).parent.chmod(0o700)


def close_file(host: Host, link: str) -> None:
    host.bundle.chmod(0o600)


@pytest.mark.parametrize("break_it", [lose_served, lose_folder, close_folder, close_file])
def test_what_nginx_cannot_serve_is_mended_under_the_same_link(host: Host, break_it: object) -> None:
    first = host.publish()
    break_it(host, first.link)  # type: ignore[operator]
    assert host.publish(check=True).changed
    mended = host.publish()
    assert (mended.changed, mended.link) == (True, first.link)
    assert host.served(first.link).stat().st_mode & stat.S_IROTH
    assert not host.publish().changed


def test_killed_between_record_and_link_it_is_completed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    first = host.publish()
    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "_serve", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            host.publish(renew=True)
    assert len(host.records.all()) == 2
    host.clock.sleep(1)
    second = host.publish()
    assert second.changed
    # Whichever of the two of one second is taken: one link is left, and it works.
    assert [record.path for record in host.records.all()] == [str(host.bundle)]
    assert list(host.places.published.iterdir()) == [host.served(second.link).parent]
    assert first.sha256 == second.sha256


def test_a_file_that_is_replaced_meanwhile_is_not_served(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def replaced_first(source: Path, target: Path, **options: object) -> None:
        replace_file(host)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", replaced_first)
        with pytest.raises(MigrationError, match="was replaced while it was published"):
            host.publish()
    assert host.proven == []
    assert host.publish().changed
    assert len(host.records.all()) == 1


def test_another_checksum_than_promised_is_refused(host: Host) -> None:
    before = host.state()
    with pytest.raises(MigrationError, match=r"was promised.*delivery-checksum"):
        host.publish(sha256="0" * 64)
    assert host.state() == before
    promised = hashlib.sha256(CONTENT).hexdigest().upper()
    assert host.publish(sha256=promised).changed
    with pytest.raises(MigrationError, match="delivery-checksum"):
        host.publish(sha256="0" * 64)


def test_a_link_that_is_not_served_is_an_error(host: Host) -> None:
    def prove(_link: str, _size: int) -> None:
        raise MigrationError("HTTP 403", check="delivery-link", action="Look at nginx")

    with pytest.raises(MigrationError, match="HTTP 403"):
        host.delivery.publish(host.bundle, host.wanted, prove, check=False)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "does not lie below"),
        ("acme/../../../secret.conf", "does not lie below"),
        ("acme", "is no file"),
        ("acme/missing.age", "cannot be read.*export again"),
        ("acme/link.age", "cannot be read"),
        ("folder/acme.tar.zst.age", "is a symbolic link"),
        ("acme/pipe.age", "is no file"),
        ('acme/a".age', "cannot stand in a link"),
        ("acme/.hidden", "cannot stand in a link"),
    ],
)
def test_what_is_not_a_plain_file_below_the_folder_is_refused(host: Host, path: str, said: str) -> None:
    files = host.places.files
    (files / "acme" / "link.age").symlink_to("/etc/passwd")
    (files / "folder").symlink_to(files / "acme")
    os.mkfifo(files / "acme" / "pipe.age")
    (files / "acme" / 'a".age').write_bytes(b"x")
    (files / "acme" / ".hidden").write_bytes(b"x")
    host.bundle = files / path
    with pytest.raises(MigrationError, match=said):
        host.publish()
    assert host.records.all() == []
    assert list(host.places.published.iterdir()) == []


def test_withdrawn_neither_link_nor_file_is_left(host: Host) -> None:
    published = host.publish()
    before = host.state()
    assert host.delivery.withdraw(host.bundle, check=True)
    assert host.state() == before
    assert host.delivery.withdraw(host.bundle, check=False)
    assert not host.bundle.exists()
    assert not host.served(published.link).exists()
    assert host.records.all() == []
    assert not host.delivery.withdraw(host.bundle, check=False)


def test_a_file_without_a_link_is_withdrawn_too(host: Host) -> None:
    assert host.delivery.withdraw(host.bundle, check=False)
    assert not host.bundle.exists()


def test_the_timer_deletes_what_has_expired_and_says_so_without_the_link(host: Host) -> None:
    published = host.publish()
    assert delete_expired(host.records, host.clock) == []
    host.clock.sleep(WEEK)
    assert delete_expired(host.records, host.clock) == []  # nginx still serves this second
    host.clock.sleep(1)
    (line,) = delete_expired(host.records, host.clock)
    assert line == f"{host.bundle}: its link has expired, deleted ({len(CONTENT)} bytes)"
    assert not [part for part in urlsplit(published.link).path.split("/")[1:4] if part in line]
    assert not host.bundle.exists()
    assert list(host.places.published.iterdir()) == []
    assert delete_expired(host.records, host.clock) == []


def test_the_timer_leaves_a_file_that_took_the_old_ones_place(host: Host) -> None:
    host.publish()
    replace_file(host)
    host.clock.sleep(WEEK + 1)
    (line,) = delete_expired(host.records, host.clock)
    assert "kept: it is another file" in line
    assert host.bundle.read_bytes() == CONTENT
    assert list(host.places.published.iterdir()) == []


def test_the_timer_leaves_a_file_that_has_a_link_yet(host: Host) -> None:
    """Left by a publication that was killed: two links of one file, one expired."""
    first = host.publish()
    (record,) = host.records.all()
    identity = new_identity()
    served = host.places.published / identity / host.bundle.name
    host.records.write(replace(record, identity=identity, served=str(served), expires=record.expires + WEEK))
    host.clock.sleep(WEEK + 1)
    (line,) = delete_expired(host.records, host.clock)
    assert "kept: it has another link" in line
    assert host.bundle.exists()
    assert not host.served(first.link).exists()


def test_one_that_cannot_be_deleted_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.publish()
    host.clock.sleep(WEEK + 1)
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == host.bundle:
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(PermissionError):
            delete_expired(host.records, host.clock)
    assert len(delete_expired(host.records, host.clock)) == 1
    assert not host.bundle.exists()


def test_the_command_says_what_it_did_with_a_priority(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.publish()
    host.clock.sleep(WEEK + 1)
    monkeypatch.setattr(delivery_expiry, "SystemClock", lambda: host.clock)
    assert delivery_expiry.main(["--records", str(host.places.records)]) == 0
    assert capsys.readouterr().out.startswith(f"<5>{host.bundle}: its link has expired, deleted")
    (host.places.records / "AAAAAAAAAAAAAAAA.json").write_text("{}")
    assert delivery_expiry.main(["--records", str(host.places.records)]) == 1
    assert "delivery-record" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": 1}'])
def test_a_broken_record_is_named(host: Host, content: str) -> None:
    host.publish()
    (path,) = host.places.records.glob("*.json")
    whole = json.loads(path.read_text())
    path.write_text(content if content != '{"identity": 1}' else json.dumps({**whole, "expires": "soon"}))
    with pytest.raises(MigrationError, match=re.escape(str(path))):
        DeliveryRecords(host.places.records).all()


@given(st.text(max_size=40))
def test_a_name_is_fit_for_url_header_and_configuration_or_refused(name: str) -> None:
    try:
        assert checked_name(name) == name
    except MigrationError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name, re.ASCII)
    assert name[0] not in ".-_"


def test_the_site_takes_just_the_links_that_are_made() -> None:
    """Configuration and code each have the form of a link; they agree."""
    site = (ROOT / "roles/ireporter_delivery/templates/site.conf.j2").read_text()
    (pattern,) = re.findall(r'location ~ "(.+)" \{', site)
    location = re.compile(pattern.replace("(?<", "(?P<"))
    assert f"(?<delivery_name>{NAME.pattern})" in pattern
    for number in range(300):
        identity, name = new_identity(), f"acme-{number}.tar.zst.age"
        given = token("0" * 64, identity=identity, expires=1_795_774_416 + number, name=name)
        assert location.fullmatch(f"/{identity}/{1_795_774_416 + number}/{given}/{name}")
        # Another spelling of the same bits is another token.
        others = [given[:-1] + last for last in "BCDEFPRSTVhijwx" if last != given[-1] and last not in "AQgw"]
        assert not [other for other in others if location.fullmatch(f"/{identity}/1/{other}/{name}")]


def test_times_for_machines_and_for_people() -> None:
    assert utc_text(1_795_774_416) == "2026-11-27T10:13:36Z"
    assert japan_text(1_795_774_416) == "2026-11-27 19:13"
