"""No secret of the lab reaches an output, log, record, mail, command line or environment, at ``-vvv``, in a run that fails and in one that does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playing import ROOT, Lab

from lab.load_configuration import lab_variables

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.promise("No secret reaches an output, log, record, mail, command line or environment"),
]

# Sees the processes of every host: the lab's containers are on this machine. Secrets come in by standard input.
SAMPLER = r"""
import json, os, pathlib, sys, time
secrets = [secret.encode() for secret in json.loads(sys.stdin.readline())]
found = set()
print("looking", flush=True)
os.set_blocking(0, False)
while sys.stdin.buffer.read(1) is None:  # until it is closed
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for where in ("cmdline", "environ"):
            try:
                content = (process / where).read_bytes()
            except OSError:
                continue
            if any(secret in content for secret in secrets):
                found.add(f"{where} of {(process / 'comm').read_text().strip() if process.exists() else 'a process'}")
    time.sleep(0.02)
print(json.dumps(sorted(found)))
"""
PLACES = "/var/log /var/lib/ireporter-migration /run/ireporter-migration /tmp /var/tmp /var/lib/ireporter-export /var/lib/ireporter-import /home/ansible /root /var/mail"
EXPORTED = "bravo"
A_DIFFERENCE = "psql -XqU postgres -d irepodb_acme -c \"SELECT nextval('seq_report_no')\""


@pytest.fixture(scope="module")
def secrets() -> list[str]:
    """Everything secret the lab made."""
    made: dict[str, str] = json.loads((ROOT / "build/lab/secrets.json").read_text())
    variables = lab_variables()
    found = [*made.values(), variables["lab_tsig_secret"], variables["lab_smoke"]["acme"]["password"]]
    assert len(found) > 10
    return found


def test_no_secret_is_seen(lab: Lab, secrets: list[str]) -> None:
    lab.reset()
    with _looking_at_processes(secrets) as seen:
        failed = lab.play_and_at(
            "Verify | Source against target, everything",
            lab.on_command("dedicated01", A_DIFFERENCE),
            "shared_to_dedicated",
            "-vvv",
        )
        assert failed.returncode != 0
        assert "seq_report_no" in failed.output
        moved = lab.play("shared_to_dedicated", "-vvv")
        assert moved.returncode == 0, moved.output[-3000:]
    assert seen == []
    for output in (failed.output, moved.output, lab.mails()):
        assert [secret for secret in secrets if secret in output] == []
    for host in ("shared01", "dedicated01", "mail01"):
        assert _files_with(host, secrets) == "", host


def test_no_secret_of_an_export_or_an_import_is_seen(lab: Lab, secrets: list[str], tmp_path: Path) -> None:
    """Those of the lab, the key that signs, the customer's key, and the links, which only the contact's mail has."""
    lab.reset_for_export()
    signing = Path(lab_variables()["lab_signing_key"]["file"]).read_text(encoding="utf-8").splitlines()[2]
    identity = lab.on("selfhost01", "sed --quiet 3p /root/identity").strip()
    assert min(len(signing), len(identity)) > 40
    kept = [*secrets, signing, identity]
    with _looking_at_processes(kept) as seen:
        failed = lab.play_and_at(
            "Bundle | Make it, read it back, sign it",
            lab.on_command("shared01", "rm /run/*.signing-key"),
            "cloud_export",
            "-vvv",
            tenant=EXPORTED,
        )
        assert failed.returncode != 0
        assert "bundle-signing-key" in failed.output
        exported = lab.play("cloud_export", "-vvv", tenant=EXPORTED)
        assert exported.returncode == 0, exported.output[-3000:]
    assert seen == []
    mails = json.loads(lab.mails())
    (contact,) = (mail["body"] for mail in mails if mail["recipient"].startswith(f"contact-{EXPORTED}@"))
    links = list(dict.fromkeys(re.findall(r"https://delivery01\S+", contact)))
    assert len(links) == 3
    # What makes a link one: expiry and signature, the folder before the file's name.
    kept += [link.rsplit("/", maxsplit=1)[0].split("/", maxsplit=3)[3] for link in links]
    variables = tmp_path / "links.json"
    variables.write_text(
        json.dumps({"selfhost_import_links": dict(zip(("bundle", "statement", "signature"), links, strict=True))})
    )
    with _looking_at_processes(kept) as seen:
        imported = lab.play("selfhost_import", "-vvv", "-e", f"@{variables}", tenant=EXPORTED)
        assert imported.returncode == 0, imported.output[-3000:]
    assert seen == []
    for output in (failed.output, exported.output, imported.output):
        assert [secret for secret in kept if secret in output] == []
    others = json.dumps([mail for mail in mails if mail["body"] != contact])
    assert [secret for secret in kept if secret in others] == []
    for host in ("shared01", "delivery01"):
        assert _files_with(host, kept) == "", host
    assert _files_with("selfhost01", kept).split() == ["/root/identity"]


def test_the_sampler_would_see_one() -> None:
    """The control: a canary on a command line, and one in an environment."""
    with _looking_at_processes(["canary-on-a-command-line", "canary-in-an-environment"]) as seen:
        wait = "import time; time.sleep(2)"
        subprocess.run([sys.executable, "-c", wait, "canary-on-a-command-line"], check=True)
        subprocess.run(
            [sys.executable, "-c", wait], check=True, env=os.environ | {"CANARY": "canary-in-an-environment"}
        )
    assert any("cmdline" in place for place in seen)
    assert any("environ" in place for place in seen)


@contextmanager
def _looking_at_processes(secrets: list[str]) -> Iterator[list[str]]:
    as_root = [] if os.getuid() == 0 else ["sudo", "--non-interactive"]
    process = subprocess.Popen(
        [*as_root, sys.executable, "-c", SAMPLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(secrets) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "looking\n"
    seen: list[str] = []
    yield seen
    output, _ = process.communicate(timeout=60)
    seen += json.loads(output)


def _files_with(host: str, secrets: list[str]) -> str:
    """Names of files, and lines of the journal, that hold one; the patterns go in by standard input."""
    script = (
        "patterns=$(mktemp -p /dev/shm); cat > $patterns; "
        f"grep --recursive --files-with-matches --fixed-strings --file=$patterns {PLACES} 2>/dev/null; "
        "journalctl --no-pager --output=cat | grep --fixed-strings --file=$patterns --max-count=3; rm $patterns"
    )
    done = subprocess.run(
        ["script/lab", "shell", host, "--", "bash", "-c", script],
        cwd=ROOT,
        input="\n".join(secrets) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return done.stdout
