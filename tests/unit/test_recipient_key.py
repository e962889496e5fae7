"""The customer's public key: what can be encrypted to passes, everything else is refused without being repeated."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from ireporter.errors import MigrationError
from ireporter.recipient_key import _WEAK, bech32_decode, recipient

# A valid recipient: tests/integration asks age itself.
AGE = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(part: str, content: bytes) -> str:
    """The encoder, written from BIP-173, independently of the decoder."""
    bits = "".join(f"{byte:08b}" for byte in content)
    bits += "0" * (-len(bits) % 5)
    data = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    values = [ord(c) >> 5 for c in part] + [0] + [ord(c) & 31 for c in part] + data + [0] * 6
    checksum = 1
    for value in values:
        top, checksum = checksum >> 25, (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator * (top >> bit & 1)
    checksum ^= 1
    return part + "1" + "".join(CHARACTERS[v] for v in data + [checksum >> 5 * (5 - i) & 31 for i in range(6)])


def ssh(key: bytes, name: bytes = b"ssh-ed25519") -> str:
    blob = len(name).to_bytes(4, "big") + name + len(key).to_bytes(4, "big") + key
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def refusal(given: object) -> str:
    with pytest.raises(MigrationError) as caught:
        recipient(given)
    assert caught.value.check == "public-key"
    assert caught.value.__cause__ is None or str(given) not in str(caught.value.__cause__)
    return str(caught.value)


def test_a_key_of_age_passes() -> None:
    assert recipient(AGE).kind == "age"
    assert recipient(f"{AGE}\n").text == AGE


@pytest.mark.parametrize(
    "valid", ["A12UEL5L", "a12uel5l", "?1ezyfcl", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"]
)
def test_valid_strings_of_bip_173_are_read(valid: str) -> None:
    try:
        bech32_decode(valid)
    except ValueError as error:
        # BIP-173 says nothing about what the groups mean; as bytes some of its examples have odd padding.
        assert "padding" in str(error)


@pytest.mark.parametrize(
    "invalid",
    [
        "A1G7SGD8",
        "10a06t8",
        "1qzzfhee",
        "pzry9x0s0muk",
        "1pzry9x0s0muk",
        "x1b4n0q5v",
        "li1dgmt3",
        "de1lg7wt\xff",
        "A12uEL5L",
        "",
        "1",
    ],
)
def test_invalid_strings_of_bip_173_are_refused(invalid: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        bech32_decode(invalid)


@given(st.binary(max_size=80))
def test_bech32_comes_back(content: bytes) -> None:
    assert bech32_decode(bech32("age", content)) == ("age", content)


@given(st.integers(0, len(AGE) - 1), st.sampled_from(CHARACTERS + "1bioAGE "))
def test_no_single_wrong_character_passes(at: int, character: str) -> None:
    changed = AGE[:at] + character + AGE[at + 1 :]
    if changed.strip() != AGE:
        refusal(changed)


@given(st.integers(0, len(AGE) - 2))
def test_no_swapped_neighbours_pass(at: int) -> None:
    changed = AGE[:at] + AGE[at + 1] + AGE[at] + AGE[at + 2 :]
    if changed != AGE:
        refusal(changed)


@given(st.binary(min_size=32, max_size=32))
def test_every_x25519_key_passes(private: bytes) -> None:
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert recipient(bech32("age", public)).kind == "age"


@given(st.binary(min_size=32, max_size=32))
def test_every_ed25519_key_passes(private: bytes) -> None:
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert recipient(f"{ssh(public)} Contact Person\n").text == ssh(public)


def test_weak_keys_are_those_with_which_no_secret_comes_about() -> None:
    mine = X25519PrivateKey.generate()
    for weak in sorted(_WEAK):
        for key in {weak, weak | 1 << 255, *([weak + 2**255 - 19] if weak < 19 else [])}:
            with pytest.raises(ValueError, match="shared key"):
                mine.exchange(X25519PublicKey.from_public_bytes(key.to_bytes(32, "little")))
            assert "protects nothing" in refusal(bech32("age", key.to_bytes(32, "little")))


@pytest.mark.parametrize(
    ("given_key", "said"),
    [
        (None, "is missing"),
        ("", "is missing"),
        (4711, "is no text"),
        ([AGE], "is no text"),
        ("\n", "neither"),
        ("contact@example.com", "neither"),
        (AGE.upper(), "small letters"),
        (f"{AGE}\n{AGE}", "damaged"),
        (f"{AGE} Contact Person", "damaged"),
        (bech32("age", bytes(31)), "not of the X25519 kind"),
        (bech32("age1yubikey", b"\x02" * 33), "not of the X25519 kind"),
        ("ssh-rsa AAAAB3NzaC1yc2E= Contact Person", "of a kind that is not taken"),
        ("ecdsa-sha2-nistp256 AAAA", "of a kind that is not taken"),
        ("ssh-ed25519", "not of the form"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "not of the form"),
        (f"{ssh(b'x' * 32)}\n{ssh(b'y' * 32)}", "not of the form"),
        (f"{ssh(b'x' * 32)} a\x1b[2Jb", "not of the form"),
        ("ssh-ed25519 AAAAC", "not base64"),
        (ssh(b"x" * 31), "not one Ed25519 key"),
        (ssh(b"x" * 32, b"ssh-ed25518"), "not one Ed25519 key"),
        (ssh(b"\x02" + bytes(31)), "could be encrypted to"),
        (ssh(b"\x01" + bytes(31)), "could be encrypted to"),
        (ssh(bytes(32)), "could be encrypted to"),
        (ssh(b"\xff" * 32), "could be encrypted to"),
    ],
)
def test_what_cannot_be_encrypted_to_is_refused(given_key: object, said: str) -> None:
    assert said in refusal(given_key)


@pytest.mark.parametrize(
    "private",
    [
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
        "# public key: age1…\nage-secret-key-1canarycanary",
        "-----BEGIN OPENSSH PRIVATE KEY-----\ncanarycanary\n-----END OPENSSH PRIVATE KEY-----",
        "ssh-ed25519 AAAA -----BEGIN PRIVATE KEY-----canarycanary",
    ],
)
def test_a_private_key_is_refused_and_not_repeated(private: str) -> None:
    said = refusal(private)
    assert "is a private key" in said
    assert not any(word in said.lower() for word in ("canary", "gfpyysjz"))


@given(st.text(max_size=80))
def test_nothing_that_is_refused_is_repeated(text: str) -> None:
    try:
        recipient(f"age1{text}canary")
    except MigrationError as error:
        assert "canary" not in str(error)


@given(st.integers(0, 2**256 - 1))
def test_points_are_told_as_arithmetic_tells_them(number: int) -> None:
    """x² = (y² - 1) / (d y² + 1) has a root or not: tried by the square root of RFC 8032 itself."""
    p, y = 2**255 - 19, number % 2**255
    u, v = (y * y - 1) % p, (-121665 * pow(121666, -1, p) * y * y + 1) % p
    x = u * pow(v, 3, p) * pow(u * pow(v, 7, p), (p - 5) // 8, p) % p
    is_root = v * x * x % p in (u, -u % p)
    try:
        recipient(ssh(number.to_bytes(32, "little")))
        passes = True
    except MigrationError:
        passes = False
    assert passes == (is_root and y < p and y not in (0, 1, p - 1))


@pytest.mark.parametrize(
    "text",
    [
        f"{AGE} x",
        f"{AGE}\n-o /tmp/x",
        f"-r {AGE}",
        f"{AGE} {AGE}",
        f"{AGE}\n{AGE}",
        f"{ssh(bytes([2, *[0] * 31]))}\n-o /tmp/x",
    ],
)
def test_nothing_comes_along_with_a_key(text: str) -> None:
    """It becomes an argument of age."""
    refusal(text)
