"""The gate: an nginx snippet in the tenant's own server block that answers every request of this tenant, and of nobody else.

Its content says by itself which variant it is, so that the state can be read from the server.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import html
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .clock import Clock
from .commands import Runner
from .errors import MigrationError
from .tenant_http import TenantHttp
from .tenant_model import Tenant

FROZEN: Final = "frozen"
CLOSED: Final = "closed"
ADMIT: Final = "admit"
_STATUS = {FROZEN: 503, CLOSED: 410, ADMIT: 503}
_HEADER = "x-ireporter-gate"
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}")
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9/._~%-]*)?")
# How often in a row a new connection must be answered by the new nginx workers.
_AGREEING_ANSWERS = 3
_LONGEST_RELOAD_SECONDS = 20.0


@dataclass(frozen=True)
class Gate:
    """What a gate file says.

    :param before: what the freeze found (connection limit, units), kept here too: the tenant can be thawed although freeze.json is lost.
    """

    variant: str
    retry_after_seconds: int = 300
    moved_to: str | None = None
    secret: str | None = field(default=None, repr=False)
    before: Mapping[str, object] | None = None

    @property
    def status(self) -> int:
        """The HTTP status everybody gets who is not admitted."""
        return _STATUS[self.variant]


def check_secret(secret: str) -> str:
    """:raises MigrationError: it could not stand in an nginx string, or could be guessed."""
    if not _SECRET.fullmatch(secret):
        raise MigrationError(
            "admit_secret is no run of 16 to 128 letters, digits, _ and -",
            check="admit-secret",
            action="Make it with lookup('password', '/dev/null length=32 chars=ascii_letters,digits')",
        )
    return secret


def check_url(url: str) -> str:
    """:raises MigrationError: not a plain http(s) address."""
    if not _URL.fullmatch(url):
        raise MigrationError(
            f"moved_to is no plain web address: {url!r}", check="moved-to", action="Write it as https://name/"
        )
    return url


def render(tenant: str, page: Path, gate: Gate) -> str:
    """The snippet for the tenant's server block.

    ``return`` in the server's own rewrite phase comes before any location, password or upload limit of the tenant is looked at. The page is a
    file and not part of ``return``: it is served for a POST, too, because ``error_page`` with a path turns the request into a GET.
    """
    about: dict[str, object] = {
        "variant": gate.variant,
        "retry_after_seconds": gate.retry_after_seconds,
        "moved_to": gate.moved_to,
        "before": dict(gate.before) if gate.before is not None else None,
    }
    path = f"/.ireporter-migration/{tenant}.html"
    admit = (
        f'if ($http_x_ireporter_smoke = "{gate.secret}") {{ set $ireporter_migration_gate open; }}\n'
        if gate.secret
        else ""
    )
    retry = f"    add_header Retry-After {gate.retry_after_seconds} always;\n" if gate.status == 503 else ""
    body = f"""set $ireporter_migration_gate shut;
if ($uri = "{path}") {{ set $ireporter_migration_gate open; }}
{admit}if ($ireporter_migration_gate = shut) {{ return {gate.status}; }}
error_page {gate.status} {path};
location = {path} {{
    internal;
    auth_basic off;
    allow all;
    client_max_body_size 0;
    default_type text/html;
    charset utf-8;
    add_header Cache-Control no-store always;
{retry}    add_header X-IReporter-Gate "@digest@" always;
    alias {page};
}}
"""
    first = (
        f"# ireporter-migration gate of tenant {tenant}. Made by a migration; docs/by-hand.md says how to remove it.\n"
    )
    head = f"{first}# {json.dumps(about, sort_keys=True, ensure_ascii=True)}\n"
    return head + body.replace("@digest@", f"{gate.variant} {_digest(head + body)}")


def parse(tenant: str, page: Path, content: str) -> Gate | None:
    """The gate a file's content was rendered from, or ``None`` when somebody else wrote or changed it."""
    lines = content.split("\n", 2)
    if len(lines) < 3 or not lines[1].startswith("# {"):
        return None
    secret = re.search(r'if \(\$http_x_ireporter_smoke = "([A-Za-z0-9_-]+)"\)', content)
    try:
        about = json.loads(lines[1][2:])
        gate = Gate(
            variant=str(about["variant"]),
            retry_after_seconds=int(about["retry_after_seconds"]),
            moved_to=about["moved_to"],
            secret=secret.group(1) if secret else None,
            before=about["before"],
        )
        return gate if render(tenant, page, gate) == content else None
    except (ValueError, KeyError, TypeError):
        return None


def render_page(public_name: str, gate: Gate) -> str:
    """The page people see, Japanese first."""
    name = html.escape(public_name)
    link = ""
    if gate.moved_to:
        url = html.escape(gate.moved_to, quote=True)
        link = f'<p class="new"><a href="{url}">{url}</a></p>'
    if gate.variant == CLOSED:
        title_ja, title_en = "このサーバーは利用を終了しました", "This server is no longer in use"
        text_ja = "この i-Reporter サーバーは専用サーバーへ移行され、現在はご利用いただけません。"
        text_en = "This i-Reporter server has been migrated to a dedicated server and can no longer be used."
    else:
        title_ja, title_en = "メンテナンス中です", "Maintenance in progress"
        text_ja = "i-Reporter サーバーの移行作業を行っています。端末内のデータはそのまま保持し、しばらくしてから再度送信してください。"
        text_en = "This i-Reporter server is being migrated. Keep the data on your device and send it again later."
    if gate.moved_to:
        text_ja += "新しい接続先は次のとおりです。接続設定を変更してください。"
        text_en += " The new address is shown below; please change the connection settings."
    return f"""<!DOCTYPE html>
<html lang="ja">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title_ja} / {title_en}</title>
<style>
body {{ font-family: "Hiragino Sans", "Yu Gothic", Meiryo, sans-serif; color: #222; background: #f4f5f7; margin: 0; }}
main {{ max-width: 38em; margin: 12vh auto; padding: 2em 2.5em; background: #fff; border-top: 4px solid #1f5fa8; }}
h1 {{ font-size: 1.4em; margin: 0 0 .6em; }} h2 {{ font-size: 1.1em; margin: 1.8em 0 .6em; }}
p {{ line-height: 1.7; }} .new {{ font-weight: bold; }} footer {{ margin-top: 2em; color: #667; font-size: .85em; }}
</style>
</head>
<body>
<main>
<h1>{title_ja}</h1>
<p>{text_ja}</p>
<section lang="en"><h2>{title_en}</h2>
<p>{text_en}</p></section>
{link}
<footer>{name}</footer>
</main>
</body>
</html>
"""


class GateKeeper:
    """Puts the gate up and takes it down without ever leaving nginx with a configuration it refuses: neighbours must not notice."""

    def __init__(self, tenant: Tenant, run: Runner, clock: Clock, web: TenantHttp) -> None:
        self._tenant = tenant
        self._run = run
        self._clock = clock
        self._web = web
        self.file = tenant.web.gate_file
        self.page = tenant.web.gate_file.parent / f"{tenant.name}.maintenance.html"

    def read(self) -> tuple[Gate | None, bool]:
        """The gate on this server and whether a gate file exists; ``(None, True)``: there is one, but not as we write it."""
        content = _read(self.file)
        if content is None:
            return None, False
        gate = parse(self._tenant.name, self.page, content)
        if gate is not None and _read(self.page) != render_page(self._tenant.public_name, gate):
            return None, True
        return gate, True

    def obstacle(self) -> tuple[str, str] | None:
        """Why a gate file would have no effect here, or an effect on a neighbour: message and action; ``None`` when all is well."""
        output = self._run(list(self._tenant.web.dump), check=False, timeout_seconds=60)
        if output.returncode != 0:
            return (
                f"nginx refuses its configuration: {' '.join(output.stderr.split())[-300:]}",
                "Mend it first: nginx -t says where",
            )
        ours = False
        for names, includes in server_blocks(output.stdout):
            if any(fnmatch.fnmatch(str(self.file), pattern) for pattern in includes):
                if self._tenant.public_name not in names:
                    return (
                        f"The gate file {self.file} of tenant {self._tenant.name} would act on {' '.join(names) or 'another site'} too",
                        "Include it in the tenant's own server block only",
                    )
                ours = True
        if not ours:
            return (
                f"No nginx server block of {self._tenant.public_name} includes {self.file}",
                f"Add this line to it: include {self.file.with_suffix('')}*.conf;",
            )
        return None

    def put(self, gate: Gate) -> bool:
        """Put ``gate`` up and wait until every new request meets it; ``False`` when it stood there already.

        :raises MigrationError: nginx refuses the configuration (the former gate is back) or the gate has no effect.
        """
        content = render(self._tenant.name, self.page, gate)
        page = render_page(self._tenant.public_name, gate)
        same = _read(self.file) == content and _read(self.page) == page
        if not same:
            self.file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _write(self.page, page, 0o644)
            former = _read(self.file)
            # 0600: nginx reads it as root, and it may hold the run's smoke secret.
            _write(self.file, content, 0o600)
            self._reload_or_restore(former)
        elif not self._stands(gate, content):
            self._reload_or_restore(content)
        if not self._wait(lambda: self._stands(gate, content)):
            raise MigrationError(
                f"nginx was reloaded, but https://{self._tenant.public_name}/ is not answered by the gate",
                check="gate-effect",
                action=f"See whether the tenant's server block includes {self.file} before any other return or rewrite",
            )
        return not same

    def remove(self) -> bool:
        """Take the gate down and wait until no new request meets it; ``False`` when there was none.

        :raises MigrationError: nginx refuses the configuration without it, or it still acts.
        """
        former = _read(self.file)
        if former is not None:
            self.file.unlink()
            self._reload_or_restore(former)
        elif self._answered_by_gate():
            self._reload_or_restore(None)
        if not self._wait(lambda: not self._answered_by_gate()):
            raise MigrationError(
                f"The gate of {self._tenant.public_name} was removed, but nginx still answers with it",
                check="gate-effect",
                action="Run systemctl reload nginx and look at its error log",
            )
        with contextlib.suppress(FileNotFoundError):
            self.page.unlink()
        return former is not None

    def _reload_or_restore(self, former: str | None) -> None:
        tested = self._run(list(self._tenant.web.test), check=False, timeout_seconds=60)
        if tested.returncode == 0:
            self._run(list(self._tenant.web.reload), timeout_seconds=60)
            return
        if former is None:
            with contextlib.suppress(FileNotFoundError):
                self.file.unlink()
        else:
            _write(self.file, former, 0o600)
        raise MigrationError(
            f"nginx refuses its configuration, so the gate of {self._tenant.name} was left as it was: {' '.join(tested.stderr.split())[-300:]}",
            check="nginx-test",
            action="Mend the nginx configuration (nginx -t), then run again",
        )

    def _stands(self, gate: Gate, content: str) -> bool:
        found = re.search(r'X-IReporter-Gate "([^"]+)"', content)
        for method in ("GET", "POST"):
            try:
                answer = self._web.request(method, "/", body=b"" if method == "POST" else None)
            except MigrationError:
                return False
            if answer.status != gate.status or found is None or answer.headers.get(_HEADER) != found.group(1):
                return False
        return True

    def _answered_by_gate(self) -> bool:
        return _HEADER in self._web.request("GET", "/").headers

    def _wait(self, ready: Callable[[], bool]) -> bool:
        deadline = self._clock.monotonic() + _LONGEST_RELOAD_SECONDS
        agreeing = 0
        while True:
            agreeing = agreeing + 1 if ready() else 0
            if agreeing >= _AGREEING_ANSWERS:
                return True
            if self._clock.monotonic() >= deadline:
                return False
            if agreeing == 0:
                self._clock.sleep(0.1)


def server_blocks(dump: str) -> list[tuple[list[str], list[str]]]:
    """``server_name`` words and ``include`` patterns of every ``server`` block in the output of ``nginx -T``."""
    blocks: list[tuple[list[str], list[str]]] = []
    for text in re.split(r"(?m)^# configuration file .*:$", dump):
        depth = 0
        opened: list[int] = []
        words: list[str] = []
        for part in re.findall(r"#[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};\"']+", text):
            if part.startswith("#"):
                continue
            if part == "{":
                depth += 1
                if words == ["server"]:
                    blocks.append(([], []))
                    opened.append(depth)
                words = []
            elif part == "}":
                if opened and opened[-1] == depth:
                    opened.pop()
                depth -= 1
                words = []
            elif part == ";":
                if opened and opened[-1] == depth and words[:1] == ["server_name"]:
                    blocks[-1][0].extend(word.strip("\"'") for word in words[1:])
                if opened and words[:1] == ["include"]:
                    blocks[-1][1].extend(word.strip("\"'") for word in words[1:])
                words = []
            else:
                words.append(part)
    return blocks


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def _write(path: Path, content: str, mode: int) -> None:
    """Atomically and durably; the temporary name begins with a dot, so that no include pattern finds it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
