"""What clients send to the stand-in: both upload styles, both cluster layouts, and everything hostile."""

from __future__ import annotations

import io
import unicodedata
import warnings
import zipfile

import pytest

from lab.standin.ireporter_standin import archive, uploads
from lab.standin.ireporter_standin.errors import BAD_PARAMETER, TOO_LARGE, RefusedError

BOUNDARY = "----x"
KIND = f'multipart/form-data; boundary="{BOUNDARY}"'


def multipart(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts)
    return body + f"--{BOUNDARY}--\r\n".encode()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def test_style_a_everything_in_the_form() -> None:
    body = multipart(
        ('Content-Disposition: form-data; name="command"', b"AutoGenerate"),
        (
            'Content-Disposition: form-data; name="dataFile"; filename="u.xml"\r\nContent-Type: text/xml',
            b"<a>\r\n--x</a>",
        ),
        ('Content-Disposition: form-data; name="updateUser"', "山田".encode()),
    )
    request = uploads.read_request("", KIND, body)
    assert request.parameters == {"command": "AutoGenerate", "updateUser": "山田"}
    assert request.file == b"<a>\r\n--x</a>"


def test_style_a_file_field_without_a_file_name() -> None:
    body = multipart(('Content-Disposition: form-data; name="dataFile"', b"<a/>"))
    assert uploads.read_request("", KIND, body).file == b"<a/>"


@pytest.mark.parametrize(
    "head",
    ['Content-Disposition: form-data; filename="u.xml"', "Content-Type: text/xml", "Content-Disposition: form-data"],
)
def test_style_b_parameters_in_the_query_and_a_file_without_a_field_name(head: str) -> None:
    request = uploads.read_request("command=UpdateReport&mode=0", KIND, multipart((head, b"\x00\xff\r\n")))
    assert request.parameters == {"command": "UpdateReport", "mode": "0"}
    assert request.file == b"\x00\xff\r\n"


def test_the_first_file_counts_and_the_form_wins_over_the_query() -> None:
    body = multipart(
        ('Content-Disposition: form-data; name="type"', b"xml"),
        ('Content-Disposition: form-data; name="a"; filename="1"', b"first"),
        ('Content-Disposition: form-data; name="b"; filename="2"', b"second"),
    )
    request = uploads.read_request("type=csv", KIND, body)
    assert (request.file, request.parameters) == (b"first", {"type": "xml"})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        (KIND, b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut off'),
        ("application/x-www-form-urlencoded", b"\xff=1"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(1001))),
    ],
)
def test_a_broken_upload_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        uploads.read_request("", kind, body)
    assert refused.value.code == BAD_PARAMETER


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE conmas [<!ENTITY a "b">]><conmas>&a;</conmas>',
        b'<!DOCTYPE conmas [<!ENTITY f SYSTEM "file:///etc/passwd">]><conmas>&f;</conmas>',
        b'<!DOCTYPE conmas SYSTEM "http://192.0.2.1/x.dtd"><conmas/>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE conmas [<!ENTITY a "b">]><conmas>&a;</conmas>'.encode(
            "utf-16"
        ),
        b"<conmas>",
        b"",
        b"<other/>",
        b"<conmas>&unknown;</conmas>",
        b"<?xml version='1.0' encoding='no-such'?><conmas/>",
    ],
)
def test_entities_and_broken_documents_are_refused(document: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        uploads.parse_xml(document)
    assert refused.value.code == BAD_PARAMETER


@pytest.mark.parametrize(
    "inner",
    [
        b"<a/>" * uploads.MAXIMUM_ELEMENTS,
        b"<a>" * uploads.MAXIMUM_DEPTH + b"</a>" * uploads.MAXIMUM_DEPTH,
        b"<a " + b" ".join(b'a%d=""' % n for n in range(uploads.MAXIMUM_ATTRIBUTES + 1)) + b"/>",
    ],
)
def test_a_document_that_would_fill_the_memory_is_refused(inner: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        uploads.parse_xml(b"<conmas>" + inner + b"</conmas>")
    assert refused.value.code == TOO_LARGE


def test_the_head_of_a_part_is_bounded() -> None:
    with pytest.raises(RefusedError) as refused:
        uploads.read_request("", KIND, multipart(("Content-Disposition: form-data; " + "a" * 9000, b"x")))
    assert refused.value.code == TOO_LARGE


def test_a_form_may_hold_text_that_is_not_percent_encoded() -> None:
    request = uploads.read_request("", "application/x-www-form-urlencoded", "a=日本&b=%E8%AA%9E+x".encode())
    assert request.parameters == {"a": "日本", "b": "語 x"}


@pytest.mark.parametrize("name", ["repTopName", "systemKey1", "createUserId"])
def test_a_name_is_bounded(name: str) -> None:
    root = uploads.parse_xml(f"<conmas><top><{name}>{'名' * 501}</{name}></top></conmas>".encode())
    with pytest.raises(RefusedError) as refused:
        uploads.read_tops(root, {})
    assert refused.value.code == TOO_LARGE


def test_code_page_932_is_read() -> None:
    document = '<?xml version="1.0" encoding="Shift_JIS"?><conmas>帳票①ｶﾅ</conmas>'.encode("cp932")
    assert uploads.parse_xml(document, "932").text == "帳票①ｶﾅ"


def test_a_zip_holds_one_document_and_pictures() -> None:
    content, files = archive.unpack(zipped(import__xml=b"<conmas/>", photo__png=b"p"))
    assert (content, files) == (b"<conmas/>", {"photo.png": b"p"})


@pytest.mark.parametrize("content", [b"no zip", zipped(a__txt=b""), zipped(a__xml=b"", b__xml=b"")])
def test_another_zip_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        archive.unpack(content)
    assert refused.value.code == BAD_PARAMETER


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_refused(method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.writestr("a.xml", bytes(range(256)) * 20)
    content = bytearray(buffer.getvalue())
    content[36:60] = b"\xff" * 24  # the compressed data begins after the head and the name
    with pytest.raises(RefusedError) as refused:
        archive.unpack(bytes(content))
    assert refused.value.code == BAD_PARAMETER


@pytest.mark.parametrize("names", [("a/x.xml", "b/x.xml"), ("x.xml", "b/X.XML"), ("x.xml", "p.png", "p.png")])
def test_a_zip_that_says_two_things_is_refused(names: tuple[str, ...]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the library that makes it: a name twice
                made.writestr(name, b"<conmas/>")
    with pytest.raises(RefusedError) as refused:
        archive.unpack(buffer.getvalue())
    assert refused.value.code == BAD_PARAMETER


@pytest.mark.parametrize("encoding", ["cp932", "utf-8"])
def test_a_picture_with_a_japanese_name_is_found_whatever_the_zip_calls_it(encoding: str) -> None:
    raw = unicodedata.normalize("NFD" if encoding == "utf-8" else "NFC", "写真ガ表.png").encode(encoding)
    placeholder = "x" * len(raw)  # Python would mark the name as UTF-8, Explorer and macOS do not
    content = zipped(**{"a.xml": b"<conmas/>", placeholder: b"p"}).replace(placeholder.encode(), raw)
    _, pictures = archive.unpack(content)
    assert archive.picture(pictures, "写真ガ表.png") == b"p"


def test_pictures_of_the_same_name_are_told_apart_by_their_path() -> None:
    _, pictures = archive.unpack(zipped(**{"a.xml": b"<conmas/>", "1/p.png": b"one", "2/p.png": b"two"}))
    assert archive.picture(pictures, "2\\p.png") == b"two"
    assert archive.picture(pictures, "other.png") is None
    with pytest.raises(RefusedError, match=r"more than one 'p\.png'"):
        archive.picture(pictures, "p.png")


def test_a_zip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAXIMUM_UNPACKED", 1000)
    with pytest.raises(RefusedError) as refused:
        archive.unpack(zipped(import__xml=b"<conmas/>" + b" " * 2000))
    assert refused.value.code == TOO_LARGE


def test_a_zip_that_lies_about_its_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAXIMUM_UNPACKED", 1000)
    content = zipped(import__xml=b"x" * 2000)
    # The size in the directory is what a reader believes first.
    lie = content.replace((2000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(RefusedError):
        archive.unpack(lie)


def test_clusters_in_sheets_and_at_the_top_and_what_is_ignored() -> None:
    root = uploads.parse_xml(
        b"""<conmas><top><repTopId>7</repTopId><repTopName>(ignore)</repTopName><systemKey2></systemKey2>
        <systemKey3>k</systemKey3><createUserId>(ignore)</createUserId><editStatus>4</editStatus>
        <clusters><cluster><sheetNo>1</sheetNo><clusterId>0</clusterId><value>a</value></cluster></clusters>
        <sheets><sheet><sheetNo>2</sheetNo><clusters><cluster><clusterId>5</clusterId><value>(ignore)</value>
        <approvalSignImage>C:\\tmp\\stamp.png</approvalSignImage></cluster></clusters></sheet></sheets></top></conmas>"""
    )
    (top,) = uploads.read_tops(root, {"stamp.png": b"image"})
    assert (top.rep_top_id, top.name, top.user, top.edit_status) == (7, None, None, 4)
    assert top.system_keys == [None, "", "k", None, None]
    assert [(c.sheet_no, c.cluster_id, c.value, c.image) for c in top.clusters] == [
        (1, 0, "a", None),
        (2, 5, None, b"image"),
    ]


def test_a_value_that_names_a_picture_becomes_the_picture() -> None:
    root = uploads.parse_xml(
        b"<conmas><top><clusters><cluster><sheetNo>1</sheetNo><clusterId>1</clusterId><value>p.png</value></cluster>"
        b"</clusters></top></conmas>"
    )
    (top,) = uploads.read_tops(root, {"p.png": b"\x89PNG"})
    assert (top.clusters[0].value, top.clusters[0].image) == ("Image", b"\x89PNG")


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<top><defTopId>x</defTopId></top>",
        "<top><defTopId>99999999999</defTopId></top>",
        "<top><defTopId>-1</defTopId></top>",
        "<top><editStatus>5</editStatus></top>",
        "<top><clusters><cluster><value>1</value></cluster></clusters></top>",
        "<top/>" * 101,
    ],
)
def test_a_report_that_makes_no_sense_is_refused(inner: str) -> None:
    with pytest.raises(RefusedError) as refused:
        uploads.read_tops(uploads.parse_xml(f"<conmas>{inner}</conmas>".encode()), {})
    assert refused.value.code == BAD_PARAMETER
