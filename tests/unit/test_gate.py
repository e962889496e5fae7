"""The gate's snippet and page, and that nginx never keeps a configuration it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import gate as gates
from ireporter.commands import Completed
from ireporter.errors import MigrationError
from ireporter.gate import Gate, GateKeeper, parse, render, render_page, server_blocks
from ireporter.tenant_http import Response
from ireporter.tenant_model import parse as parse_tenant

from tests.unit.tenant_fakes import FakeClock, tenant_dictionary

PAGE = Path("/etc/nginx/ireporter/acme.maintenance.html")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    variant=st.sampled_from([gates.FROZEN, gates.CLOSED, gates.ADMIT]),
    retry=st.integers(0, 100000),
    moved=st.none() | st.just("https://new.example:8443/a%20b/"),
    before=st.none() | st.dictionaries(st.text(), json_values, max_size=3),
)
def test_what_was_rendered_is_read_back(
    variant: str, retry: int, moved: str | None, before: dict[str, object] | None
) -> None:
    secret = "Secret-of-the-run_01" if variant == gates.ADMIT else None
    gate = Gate(variant, retry, moved, secret, before)
    text = render("acme", PAGE, gate)
    assert parse("acme", PAGE, text) == gate
    assert parse("acme", PAGE, text.replace("shut", "open")) is None
    assert parse("bravo", PAGE, text) is None


@pytest.mark.parametrize("text", ["", "return 410;", "# one\n# {}\n", "# one\n# {not json}\nx", "# a\n# [1]\nb"])
def test_other_content_is_no_gate(text: str) -> None:
    assert parse("acme", PAGE, text) is None


def test_the_secret_is_in_the_condition_only() -> None:
    text = render("acme", PAGE, Gate(gates.ADMIT, secret="Secret-of-the-run_01"))
    assert text.count("Secret-of-the-run_01") == 1
    assert "Secret" not in render_page("acme.example", Gate(gates.ADMIT, secret="Secret-of-the-run_01"))


@pytest.mark.parametrize("secret", ["short", 'a"; return 200; #aaaaaaaa', "a" * 200, "white space in the secret"])
def test_a_secret_that_could_be_interpreted_is_refused(secret: str) -> None:
    with pytest.raises(MigrationError) as caught:
        gates.check_secret(secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://x/<script>", 'https://x/"', "https://x/;", "//x", "https://x/ y"]
)
def test_an_address_that_could_be_interpreted_is_refused(url: str) -> None:
    with pytest.raises(MigrationError):
        gates.check_url(url)


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.links: list[str | None] = []

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(attrs)["href"])


def test_the_page_says_it_in_both_languages_with_the_new_address() -> None:
    page = Text()
    page.feed(render_page("acme.example", Gate(gates.FROZEN, moved_to="https://new.example/")))
    assert "メンテナンス中です" in page.words
    assert "Maintenance in progress" in page.words
    assert page.links == ["https://new.example/"]
    closed = Text()
    closed.feed(render_page("acme.example", Gate(gates.CLOSED)))
    assert "no longer" in closed.words
    assert closed.links == []


class Nginx:
    """Reads the gate file on reload, as nginx does; refuses while ``broken``."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.loaded = ""
        self.broken = False
        self.reloads = 0
        self.slow_answers = 0

    def run(self, argv: Sequence[str], **_options: object) -> Completed:
        if list(argv) == ["nginx", "-t"]:
            return Completed(1, "", "[emerg] broken\nhere") if self.broken else Completed(0, "", "")
        if list(argv) == ["systemctl", "reload", "nginx"]:
            self.reloads += 1
            self.loaded = self.file.read_text() if self.file.exists() else ""
            return Completed(0, "", "")
        raise AssertionError(argv)

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        if self.slow_answers:
            self.slow_answers -= 1
            return Response(200, {}, b"an old worker")
        if not self.loaded:
            return Response(200, {}, b"application")
        digest = self.loaded.split('X-IReporter-Gate "')[1].split('"')[0]
        return Response(410 if "return 410" in self.loaded else 503, {"x-ireporter-gate": digest}, b"")


@pytest.fixture
def nginx(tmp_path: Path) -> Nginx:
    return Nginx(tmp_path / "nginx" / "acme.gate.conf")


@pytest.fixture
def keeper(tmp_path: Path, nginx: Nginx) -> GateKeeper:
    tenant = parse_tenant(tenant_dictionary(tmp_path))
    return GateKeeper(tenant, nginx.run, FakeClock(), nginx)  # type: ignore[arg-type]


def test_put_and_remove(keeper: GateKeeper, nginx: Nginx) -> None:
    gate = Gate(gates.FROZEN)
    nginx.slow_answers = 4
    assert keeper.put(gate)
    assert keeper.read() == (gate, True)
    assert keeper.file.stat().st_mode & 0o777 == 0o600
    assert not keeper.put(gate)
    assert nginx.reloads == 1
    assert keeper.remove()
    assert not keeper.remove()
    assert not keeper.page.exists()


def test_a_gate_written_but_not_yet_loaded_is_loaded(keeper: GateKeeper, nginx: Nginx) -> None:
    keeper.put(Gate(gates.FROZEN))
    nginx.loaded = ""  # killed between writing and reloading
    keeper.put(Gate(gates.FROZEN))
    assert nginx.loaded


def test_when_nginx_refuses_the_former_gate_is_back(keeper: GateKeeper, nginx: Nginx) -> None:
    keeper.put(Gate(gates.FROZEN))
    former = keeper.file.read_text()
    nginx.broken = True
    for change in (lambda: keeper.put(Gate(gates.CLOSED)), keeper.remove):
        with pytest.raises(MigrationError) as caught:
            change()
        assert caught.value.check == "nginx-test"
        assert "\n" not in str(caught.value)
        assert keeper.file.read_text() == former
    assert nginx.reloads == 1


def test_without_a_former_gate_a_refused_one_is_taken_away(keeper: GateKeeper, nginx: Nginx) -> None:
    nginx.broken = True
    with pytest.raises(MigrationError):
        keeper.put(Gate(gates.FROZEN))
    assert not keeper.file.exists()


def test_a_gate_without_effect_is_a_failure(keeper: GateKeeper, nginx: Nginx) -> None:
    nginx.slow_answers = 100000
    with pytest.raises(MigrationError) as caught:
        keeper.put(Gate(gates.FROZEN))
    assert caught.value.check == "gate-effect"


def test_an_altered_page_is_noticed(keeper: GateKeeper, nginx: Nginx) -> None:
    keeper.put(Gate(gates.FROZEN))
    keeper.page.write_text("hacked")
    assert keeper.read() == (None, True)
    assert keeper.put(Gate(gates.FROZEN))
    assert nginx.reloads == 2


DUMP = """# configuration file /etc/nginx/nginx.conf:
http { include /etc/nginx/sites-enabled/*; server_tokens off; }
# configuration file /etc/nginx/sites-enabled/acme:
server { # a comment with { and ;
  listen 443 ssl; server_name acme.example "www.acme.example";
  add_header X "a;b{c}"; include /etc/nginx/ireporter/acme.gate*.conf;
  location / { include proxy_params; proxy_pass http://unix:/run/x.sock; }
}
# configuration file /etc/nginx/sites-enabled/bravo:
server { server_name bravo.example; location / { return 200; } }
"""


def test_server_blocks_are_found() -> None:
    assert server_blocks(DUMP) == [
        (["acme.example", "www.acme.example"], ["/etc/nginx/ireporter/acme.gate*.conf", "proxy_params"]),
        (["bravo.example"], []),
    ]


@pytest.mark.parametrize(
    ("dump", "wanted"),
    [
        (DUMP.replace("acme.example", "acme.ireporter.example").replace("/etc/nginx/ireporter", "FOLDER"), None),
        (DUMP, "No nginx server block"),
        (DUMP.replace("return 200;", "include FOLDER/*.conf;"), "would act on bravo.example too"),
    ],
)
def test_obstacles_of_the_gate(tmp_path: Path, dump: str, wanted: str | None) -> None:
    tenant = parse_tenant(tenant_dictionary(tmp_path))
    text = dump.replace("FOLDER", str(tenant.web.gate_file.parent))
    keeper = GateKeeper(tenant, lambda *_a, **_k: Completed(0, text, ""), FakeClock(), None)  # type: ignore[arg-type]
    found = keeper.obstacle()
    assert found is None if wanted is None else found is not None and wanted in found[0]
