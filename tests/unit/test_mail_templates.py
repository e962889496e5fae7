"""What the mails say, and to whom: rendered from the role's templates as the role renders them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.plugins.filter.core import FilterModule

ROLE = Path(__file__).resolve().parents[2] / "roles" / "ireporter_notification"
LINK = "https://delivery.example.com/bvhjgDBAaRJcpAxn/1795774416/3NxaMih0uHbP0D8YaJMZcg/acme.tar.zst.age"
SHA256 = "8a548ace990add62ea971ba697f04f4b4b7c475194170f173cf41d90fe16da3e"
EVERY: dict[str, Any] = {
    "tenant": "acme",
    "contact": {"name": "Contact Person", "company": "Acme Example Ltd.", "email": "contact@example.com"},
    "partner": {"name": "Partner Person", "company": "Partner Example Ltd.", "email": "partner@example.com"},
    "sales_representative": {"name": "Sales Person", "email": "sales@example.com", "phone": "+81-3-0000-0001"},
    "invoice_month": "",
}
EXPORTED: dict[str, Any] = {
    **EVERY,
    "downloads": [
        {"name": "Bundle", "link": LINK, "expires": "2026-12-04 19:13", "bytes": 2147483648, "sha256": SHA256},
        {"name": "Signature", "link": f"{LINK}.sig", "expires": "2026-12-04 19:14", "bytes": 301, "sha256": "0" * 64},
    ],
    "cut_off": "2026-11-28 22:04",
    "licensing": [{"title": "Your licences are invoiced separately.", "url": "https://example.com/licences"}],
    "support_documents": [{"title": "Installation guide", "url": "https://example.com/guide"}],
    "server_files": [
        {"title": "Server installer", "url": "https://example.com/server"},
        {"title": "By post on request"},
    ],
    "contract_end": "",
    "signer": "",
}
MOVED: dict[str, Any] = {
    **EVERY,
    "before": {"public_name": "acme.example.com", "suffix": "ACME", "address": "192.0.2.10"},
    "after": {"public_name": "acme.example.com", "suffix": "ACME", "address": ["198.51.100.10"]},
    "paths": {"application": "/ConMasWeb{suffix}/", "manager": "/ConMasManager{suffix}/", "api": "/ConMasAPI{suffix}/"},
    "opened_at": "2026-11-28 22:04",
}
SEPARATOR = "-" * 72


def rendered(template: str, values: dict[str, Any], **changes: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["flatten"] = FilterModule().filters()["flatten"]
    known = {f"ireporter_notification_{name}": value for name, value in {**values, **changes}.items()}
    return environment.get_template(template).render(known)


def halves(text: str) -> tuple[str, str]:
    japanese, english = text.split(SEPARATOR)
    return japanese, english


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("contact.txt.j2", MOVED),
        ("partner.txt.j2", MOVED),
        ("exported_contact.txt.j2", EXPORTED),
        ("exported_partner.txt.j2", EXPORTED),
    ],
)
def test_each_mail_is_in_both_languages_and_names_the_sales_representative(
    template: str, values: dict[str, Any]
) -> None:
    text = rendered(template, values)
    japanese, english = halves(text)
    for half in (japanese, english):
        assert "Sales Person, sales@example.com, +81-3-0000-0001" in half  # R23
    assert re.search(r"[ぁ-ん]", japanese)
    assert not re.search(r"[ぁ-んァ-ヶ一-龠]", english)
    assert "{" not in text.replace("{suffix}", "")
    assert not re.search(r"\n{4,}", text.replace(f"\n\n\n{SEPARATOR}", "")), "empty lines where a condition was"
    assert max(len(line) for line in english.splitlines() if "https://" not in line) <= 130


def test_the_contact_is_given_everything_the_rules_name() -> None:
    text = rendered("exported_contact.txt.j2", EXPORTED, contract_end="2027-01-31", signer="SHA256:abc")
    for half in halves(text):
        for wanted in (
            *(f" {LINK}\n", f" {LINK}.sig\n", "2026-12-04 19:13", "2,147,483,648", SHA256),  # R17, R20
            *("2026-11-28 22:04", "2027-01-31"),  # the cut-off, R15
            *("Your licences are invoiced separately.", "https://example.com/licences"),
            *("Installation guide", "https://example.com/guide"),
            *("Server installer", "https://example.com/server", "By post on request"),
            *("SHA256:abc", "selfhost_import", "data/migration.json", "WebDAV", "sha256sum", "Get-FileHash", "README"),
            *("Gateway (App Interface)", ".ircf"),  # R22
        ):
            assert wanted in half, wanted
    numbers = re.findall(r"\n\n(?:■ )?(\d)\. ", text)
    assert numbers == [*"1234567", *"1234567"], "an empty line before each part"
    assert "WILL NOT BE MIGRATED" in text
    assert "移行されません" in text


def test_what_is_not_known_is_left_out_of_the_sentence() -> None:
    text = rendered("exported_contact.txt.j2", EXPORTED)
    assert "until the contract ends.\n" in text
    assert "契約の終了まで引き続き" in text
    assert "INVOICE" not in text
    assert "Fingerprint" not in text
    assert "8. INVOICE\nThe new contract is invoiced from 2027-01 on.\n" in rendered(
        "exported_contact.txt.j2", EXPORTED, invoice_month="2027-01"
    )


def test_the_partner_learns_nothing_by_which_to_download() -> None:
    text = rendered("exported_partner.txt.j2", EXPORTED)
    for half in halves(text):
        assert "Acme Example Ltd." in half
    for secret in (LINK, "https://", SHA256, "delivery.example.com", "contact@example.com", "2026-12-04"):
        assert secret not in text


@pytest.mark.parametrize("template", ["exported_contact.txt.j2", "exported_partner.txt.j2"])
def test_values_are_data(template: str) -> None:
    name = "{{ lookup('pipe', 'id') }}"
    text = rendered(template, EXPORTED, contact={**EVERY["contact"], "company": name})
    assert text.count(name) == 2


def test_the_applications_are_the_same_in_both_migrations() -> None:
    for mail, values in (("contact.txt.j2", MOVED), ("exported_contact.txt.j2", EXPORTED)):
        text = rendered(mail, values)
        for language in ("ja", "en"):
            assert (ROLE / "templates" / f"applications.{language}.j2").read_text(encoding="utf-8") in text
