#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Names are bytes here, some of them no text, which pathlib cannot hold.
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH118, PTH120, PTH208, PTH211
"""Fills a stand-in tenant (test equipment) with data of any size from a seed: the database, and the file trees.

The same seed and sizes give the same rows and the same files. Runs on the tenant's server as root with Debian's
Python; needs python3-psycopg, acl and the stand-in. Prints one JSON line with what it made.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Measured with PostgreSQL 15: an empty tenant with definitions and masters has 19.7 MB, a report adds 228 KB, of which
# 223 KB are in rows. A little less is reckoned with, so that from 0.5 GB on the rows alone are what was asked for.
BASE_BYTES = 19_700_000
BYTES_PER_REPORT = 215_000
LEAST_REPORTS = 100  # fewer would not have one of every difficult kind
MEASUREMENTS_PER_REPORT = 120
DEFINITIONS = (
    "日常点検表",
    "設備保全 記録",
    "品質検査 (受入)",
    '作業日報 "夜勤"',
    "ヒヤリハット報告",
    "温度管理表",
    "Kiểm tra an toàn",
    "出荷検査’24",
)
CLUSTERS = 24
WIDE_CLUSTERS = 1572  # as many as the four linkage tables of one definition hold
WIDE_REPORTS = 5
EPOCH = datetime.datetime(2024, 1, 5, 0, 0, tzinfo=datetime.UTC)
LARGE_OBJECT = 900_001


class GenerateError(Exception):
    """What stands in the way, in one sentence."""


# Content --------------------------------------------------------------------------------------------------------------
def png(rng: random.Random, size: int) -> bytes:
    """A valid grey image of about ``size`` bytes that no compression makes smaller: what a photo costs."""
    width = 160
    height = max(1, size // (width + 1))
    noise = rng.randbytes(width * height)
    rows = b"".join(b"\0" + noise[n : n + width] for n in range(0, len(noise), width))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def pdf(rng: random.Random, size: int, title: str) -> bytes:
    """A valid one-page PDF of about ``size`` bytes: a line of text above a grey image of noise."""
    width = 160
    height = max(1, (size - 700) // width)
    shown = title.encode("ascii", "replace")
    text = b"BT /F1 14 Tf 40 800 Td (%s) Tj ET q 500 0 0 600 40 150 cm /I Do Q" % shown
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> /XObject << /I 6 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d "
        b"/ColorSpace /DeviceGray /BitsPerComponent 8 /Length %d >>\n"
        b"stream\n%s\nendstream" % (width, height, width * height, rng.randbytes(width * height)),
    ]
    body = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(body)


# COPY -----------------------------------------------------------------------------------------------------------------
def binary_row(*values: bytes | None) -> bytes:
    """One row of COPY's binary format."""
    parts = [struct.pack(">h", len(values))]
    for value in values:
        parts += [b"\xff\xff\xff\xff"] if value is None else [struct.pack(">i", len(value)), value]
    return b"".join(parts)


def text_row(*values: object) -> str:
    """One row of COPY's text format."""
    return "\t".join("\\N" if value is None else _escaped(str(value)) for value in values) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def int4(value: int) -> bytes:
    return struct.pack(">i", value)


def int2(value: int) -> bytes:
    return struct.pack(">h", value)


def copy_binary(connection: Any, target: str, rows: Iterator[bytes]) -> int:
    """Stream rows into a table; returns how many."""
    count = 0
    with connection.cursor().copy(f"COPY {target} FROM STDIN (FORMAT binary)") as copy:
        pending = [b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)]
        size = 0
        for row in rows:
            count += 1
            pending.append(row)
            size += len(row)
            if size > 1 << 20:
                copy.write(b"".join(pending))
                pending, size = [], 0
        copy.write(b"".join(pending) + b"\xff\xff")
    return count


def copy_text(connection: Any, target: str, rows: Iterator[str]) -> int:
    """Stream rows into a table; returns how many."""
    count = 0
    with connection.cursor().copy(f"COPY {target} FROM STDIN") as copy:
        pending: list[str] = []
        for row in rows:
            count += 1
            pending.append(row)
            if len(pending) >= 5000:
                copy.write("".join(pending).encode())
                pending = []
        copy.write("".join(pending).encode())
    return count


# The database ---------------------------------------------------------------------------------------------------------
def reports_for(gigabytes: float) -> int:
    """How many reports make a database of this size."""
    return max(LEAST_REPORTS, round((gigabytes * 1e9 - BASE_BYTES) / BYTES_PER_REPORT))


class Database:
    """Loads one tenant's database. Triggers do not fire, so what they would log is made here, with the seed's times."""

    def __init__(self, connection: Any, standin: Any, seed: int, trees: str) -> None:
        self._connection = connection
        self._standin = standin
        self._seed = seed
        self._trees = trees
        self.figures: dict[str, int] = {}

    def _rng(self, *part: object) -> random.Random:
        # A stream per part: one part's size does not shift another's content.
        return random.Random(f"{self._seed}/{'/'.join(map(str, part))}")

    def load(self, accounts: int, gigabytes: float, password: str) -> None:
        """Everything, in one transaction."""
        connection = self._connection
        if connection.execute("SELECT EXISTS (SELECT FROM rep_top)").fetchone()[0]:
            raise GenerateError("The database has reports already; generate into a new one")
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
        self._accounts(accounts, password)
        self._masters()
        self._large_objects()
        definitions, wide = self._definitions()
        self._reports(definitions, wide, reports_for(gigabytes))
        connection.execute("REFRESH MATERIALIZED VIEW mv_report_count")

    def _accounts(self, count: int, password: str) -> None:
        existing = self._connection.execute(
            "SELECT count(*) FROM mst_user WHERE delete_flag = 0 AND user_type <> 9"
        ).fetchone()[0]
        if existing:
            raise GenerateError("The database has accounts already; generate into a new one")
        group, viewers = (
            self._connection.execute(
                "SELECT group_id FROM mst_group ORDER BY group_id LIMIT 1 OFFSET %s", (n,)
            ).fetchone()[0]
            for n in (0, 1)
        )
        names = ("佐藤", "鈴木", "髙橋", "田中", "Nguyễn", "O'Brien", "渡邉", "𠮷田")
        rng = self._rng("accounts")
        rows = []
        for n in range(count + 3):  # three more that are deleted, which no licence counts
            login = "admin" if n == 0 else f"user{n:03d}"
            rows.append(
                (
                    login,
                    f"{names[n % len(names)]} {n:03d}",
                    self._standin.passwords.hashed(password, rng.randbytes(16)),
                    group if n % 10 < 9 or n < 60 else viewers,
                    1 if n == 0 else 0,
                    f"{login}@example.com",
                    1 if n >= count else 0,
                    EPOCH,
                    EPOCH,
                )
            )
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO mst_user (login_id, user_name, password_hash, group_id, user_type, mail_address, "
                "delete_flag, "
                "regist_time, update_time) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                rows,
            )
            cursor.executemany(
                "INSERT INTO mst_terminal (terminal_key, terminal_name, approved, regist_time) VALUES (%s::uuid, "
                "%s, %s, %s)",
                [(f"{rng.getrandbits(128):032x}", f"iPad 第{n}号機", int(n % 20 != 0), EPOCH) for n in range(count)],
            )
            cursor.executemany(
                "INSERT INTO log_login (login_id, accepted, address, logged_at) VALUES (%s, %s, %s, %s)",
                [
                    (f"user{rng.randrange(1, count + 1):03d}", rng.random() > 0.03, "192.0.2.7", self._time(rng))
                    for _ in range(count * 5)
                ],
            )
        self.figures["accounts"] = count

    def _masters(self) -> None:
        rng = self._rng("masters")
        masters: list[tuple[str, str, list[str], list[list[str]]]] = [
            (
                "PDF_SETTING",
                "PDF設定",
                ["名称", "値"],
                [
                    ["FONT_FILE_PATH", f"{self._trees}/settings/fonts/ipaexg.ttf"],
                    ["WATERMARK_PATH", "C:\\ConMas\\SettingFiles\\pdf\\透かし.png"],
                    ["TEMPORARY_FOLDER", f"{self._trees}/output/tmp"],
                ],
            ),
            (
                "ITEM",
                "品目マスター",
                ["品番", "品名", "単価"],
                [[f"P-{n:05d}", f"部品 {n}", str(rng.randrange(100, 99999))] for n in range(2000)],
            ),
            (
                "WORKER",
                "作業者",
                ["氏名", "所属"],
                [[f"作業者 {n}", rng.choice(["第一課", "第二課", ""])] for n in range(300)],
            ),
        ]
        for key, name, fields, records in masters:
            master = self._connection.execute(
                "INSERT INTO mst_common (master_key, master_name, field_names, update_time) VALUES (%s, %s, %s, "
                "%s) RETURNING master_id",
                (key, name, fields, EPOCH),
            ).fetchone()[0]
            with self._connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO mst_common_record VALUES (%s, %s, %s, %s)",
                    [(master, n + 1, record[0], record) for n, record in enumerate(records)],
                )
        with self._connection.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO "mst_Custom ラベル" ("表示名 ""日本語""", "order", "Parent") VALUES (%s, %s, NULL)',
                [(f"ラベル'{n}\" \\ {unicodedata.normalize('NFD', 'が')}", n) for n in range(50)],
            )

    def _large_objects(self) -> None:
        rng = self._rng("large objects")
        owner = self._connection.execute(
            "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'rep_top'::regclass"
        ).fetchone()[0]
        app = owner.removesuffix("_owner") + "_app"
        sql = self._standin.sql
        for n in range(3):
            oid = LARGE_OBJECT + n
            self._connection.execute("SELECT lo_from_bytea(%s::oid, %s)", (oid, pdf(rng, 300_000, f"manual {n}")))
            self._connection.execute(
                sql.SQL("ALTER LARGE OBJECT {} OWNER TO {}").format(sql.Literal(oid), sql.Identifier(owner))
            )
            self._connection.execute(
                sql.SQL("GRANT SELECT ON LARGE OBJECT {} TO {}").format(sql.Literal(oid), sql.Identifier(app))
            )
            self._connection.execute(
                "INSERT INTO mst_library (library_name, content_oid) VALUES (%s, %s)", (f"取扱説明書 第{n}版", oid)
            )

    def _definitions(self) -> tuple[list[int], int]:
        rng = self._rng("definitions")
        admin, connection = self._standin.admin, self._connection
        made = []
        for name, sheets, clusters in [
            *((name, 2, CLUSTERS) for name in DEFINITIONS),
            ("大型設備 総合点検", 6, WIDE_CLUSTERS),
        ]:
            definition = admin.create_definition(connection, name, sheets, clusters, pdf(rng, 25_000, "definition"))
            admin.publish(connection, definition, 393 if clusters == WIDE_CLUSTERS else 200)
            made.append(definition)
        # A published revision on top of the first: its view moves on, the old tables stay.
        revision = admin.new_revision(connection, made[0])
        admin.publish(connection, revision, 200)
        connection.execute("UPDATE def_top SET regist_time = %(t)s, update_time = %(t)s", {"t": EPOCH})
        self.figures["definitions"] = len(made) + 1
        return [revision, *made[1:-1]], made[-1]

    def _time(self, rng: random.Random) -> datetime.datetime:
        return EPOCH + datetime.timedelta(microseconds=rng.randrange(600 * 86_400 * 1_000_000))

    def _reports(self, definitions: Sequence[int], wide: int, count: int) -> None:
        connection = self._connection
        first = connection.execute("SELECT nextval(pg_get_serial_sequence('rep_top', 'rep_top_id'))").fetchone()[0]
        wide_count = min(WIDE_REPORTS, count)
        of = {first + n: (wide if n < wide_count else definitions[n % len(definitions)]) for n in range(count)}
        clusters: dict[int, list[tuple[Any, ...]]] = {}
        sheets: dict[int, list[tuple[Any, ...]]] = {}
        for definition in {*of.values()}:
            clusters[definition] = connection.execute(
                "SELECT sheet_no, cluster_id, cluster_name, cluster_type FROM def_cluster WHERE def_top_id = %s "
                "ORDER BY 1, 2",
                (definition,),
            ).fetchall()
            sheets[definition] = connection.execute(
                "SELECT sheet_no, sheet_name, background FROM def_sheet WHERE def_top_id = %s ORDER BY 1", (definition,)
            ).fetchall()
        figures = self.figures
        figures["reports"] = copy_text(
            connection,
            "rep_top (rep_top_id, rep_no, def_top_id, rep_top_name, edit_status, sheet_count, remarks_name, "
            "remarks_value, system_key, "
            "attributes, delete_flag, regist_time, regist_user, update_time, update_user)",
            self._tops(of, sheets),
        )
        figures["sheet_rows"] = copy_binary(
            connection,
            "rep_sheet",
            (
                binary_row(int4(top), int2(number), name.encode(), bytes(background))
                for top, definition in of.items()
                for number, name, background in sheets[definition]
            ),
        )
        figures["cluster_rows"] = copy_binary(
            connection,
            "rep_cluster",
            (row for top, definition in of.items() for row in self._clusters(top, clusters[definition])),
        )
        rng = self._rng("files")
        figures["file_rows"] = copy_binary(
            connection,
            "rep_file",
            (binary_row(int4(top), pdf(rng, rng.randrange(20_000, 120_000), f"report {top}"), None) for top in of),
        )
        figures["measurement_rows"] = copy_text(connection, "rep_measurement", self._measurements(of))
        connection.execute(
            "INSERT INTO log_operation (table_name, operation, row_key, actor, new_row, logged_at) "
            "SELECT 'rep_top', 'INSERT', rep_top_id, regist_user, to_jsonb(r), regist_time FROM rep_top r ORDER "
            "BY rep_top_id"
        )
        connection.execute(
            "INSERT INTO log_rep_cluster SELECT rep_top_id, sheet_no, cluster_id, NULL, value, 'user001', "
            "%s + rep_top_id * interval '1 minute' FROM rep_cluster WHERE cluster_id = 0 ORDER BY rep_top_id, sheet_no",
            (EPOCH,),
        )
        for definition in sorted({*of.values()}):
            self._linkage(definition)
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('rep_top', 'rep_top_id'), %s), setval('seq_report_no', %s)",
            (first + count - 1, 100_000 + count),
        )

    def _tops(self, of: dict[int, int], sheets: dict[int, list[tuple[Any, ...]]]) -> Iterator[str]:
        rng = self._rng("tops")
        lines = ("第一工場", "第二 工場", "Hà Nội", "工場'3\"", "")
        for n, (top, definition) in enumerate(of.items()):
            created = self._time(rng)
            user = f"user{rng.randrange(1, 100):03d}"
            line = rng.choice(lines)
            attributes = {"ライン": line, "温度": rng.choice([1.0, 20.5, 1e30]), "nested": {"b": 1, "a": [None, True]}}
            yield text_row(
                top,
                100_001 + n,
                definition,
                f"{rng.choice(DEFINITIONS)} {created:%Y-%m-%d} {line} #{n}",
                rng.choice((0, 1, 2, 3, 4, 4, 4)),
                len(sheets[definition]),
                '{"ライン","担当"}',
                _array([line, user]),
                _array([f"KEY-{n:06d}", None, "", "NULL", 'a"b\\c']),
                json.dumps(attributes, ensure_ascii=False),
                1 if n % 50 == 49 else 0,
                created.isoformat(),
                user,
                (created + datetime.timedelta(minutes=rng.randrange(600))).isoformat(),
                user,
            )

    def _clusters(self, top: int, clusters: list[tuple[Any, ...]]) -> Iterator[bytes]:
        rng = self._rng("clusters", top)
        photos = 0
        for sheet, number, name, kind in clusters:
            value: str | None
            image = None
            if kind == "Image":
                value = None
                if photos < 5 and len(clusters) <= CLUSTERS:
                    photos += 1
                    value, image = "Image", png(rng, rng.randrange(5_000, 35_000))
            elif kind == "InputNumeric":
                value = rng.choice([f"{rng.uniform(-50, 150):.3f}", f"{rng.randrange(1000)}.00", "-0", ""])
            elif kind == "Date":
                value = f"{self._time(rng):%Y/%m/%d}"
            elif kind == "Check":
                value = rng.choice(("1", "0", None))
            else:
                value = (
                    rng.choice(("異常なし", "要確認\n二行目", '漏れ; DROP TABLE "x"; --', "ｶﾅ \\ 'q' \t tab", "", None))
                    if rng.random() < 0.5
                    else f"値 {rng.getrandbits(40):x}"
                )
            yield binary_row(
                int4(top),
                int2(sheet),
                int4(number),
                name.encode(),
                kind.encode(),
                None if value is None else value.encode(),
                image,
                b"user001" if number == 0 else None,
                None,
                None,
            )

    def _measurements(self, of: dict[int, int]) -> Iterator[str]:
        rng = self._rng("measurements")
        amounts = ("1.0", "1.00", "0", "NaN", "-0.000", "123456789012345678901234567890.123456789", None)
        readings = ("-0", "0", "Infinity", "-Infinity", "NaN", "1e-300", None)
        durations = ("1 day", "24:00:00", "1 mon -1 day +00:00:01.000001", None)
        for top in of:
            for n in range(MEASUREMENTS_PER_REPORT):
                odd = rng.random() < 0.05
                x = rng.random()
                yield text_row(
                    top,
                    f"2024-{1 + n % 12:02d}-{1 + top % 28:02d} {n % 24:02d}:{top % 60:02d}:{x * 60:09.6f}+09"[:36],
                    n % 8,
                    rng.choice(amounts) if odd else f"{x * 1000:.4f}",
                    rng.choice(readings) if odd else x,
                    rng.choice(durations) if odd else None,
                    f"({x},{-x})" if odd else None,
                    '{"b": 1,  "a": 1.0, "a": "二"}' if odd else None,
                )

    def _linkage(self, definition: int) -> None:
        sql = self._standin.sql
        for table in range(1, 5):
            columns = self._connection.execute(
                "SELECT column_name, sheet_no, cluster_id FROM def_linkage WHERE def_top_id = %s AND table_no = "
                "%s ORDER BY 2, 3",
                (definition, table),
            ).fetchall()
            self._connection.execute(
                sql.SQL(
                    "INSERT INTO {} (rep_top_id{}) SELECT rep_top_id{} FROM rep_cluster JOIN rep_top USING "
                    "(rep_top_id) "
                    "WHERE def_top_id = {} GROUP BY rep_top_id ORDER BY rep_top_id"
                ).format(
                    sql.Identifier(f"report_{definition}_s_{table}"),
                    sql.SQL("").join(sql.SQL(", {}").format(sql.Identifier(name)) for name, _, _ in columns),
                    sql.SQL("").join(
                        sql.SQL(", max(value) FILTER (WHERE sheet_no = {} AND cluster_id = {})").format(
                            sql.Literal(sheet), sql.Literal(cluster)
                        )
                        for _, sheet, cluster in columns
                    ),
                    sql.Literal(definition),
                )
            )


def _array(values: Sequence[str | None]) -> str:
    quoted = ("NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return "{" + ",".join(quoted) + "}"


# The file trees -------------------------------------------------------------------------------------------------------
NO_NAME = 54321  # a user and group id nobody has


class Trees:
    """Makes the three file trees. Names are bytes: some are not text."""

    def __init__(self, root: Path, seed: int, owner: tuple[int, int] | None) -> None:
        self._root = os.fsencode(root)
        self._rng = random.Random(f"{seed}/trees")
        self._owner = owner
        self._pool = self._rng.randbytes(4 << 20)
        self._directories: set[bytes] = set()
        self.unsupported: list[str] = []
        self.figures = {"files": 0, "file_bytes": 0}

    def make(self, files: int) -> None:
        """``files`` ordinary files in all, then the difficult ones in each tree."""
        for tree in (b"output", b"settings", b"webdav"):
            path = os.path.join(self._root, tree)
            os.makedirs(path, exist_ok=True)
            if tree != b"settings" and os.listdir(path):
                raise GenerateError(f"{os.fsdecode(path)} is not empty; generate into new trees")
        settings = files // 100
        webdav = files // 4
        self._ordinary(b"output", files - settings - webdav, self._output_name)
        self._ordinary(
            b"webdav", webdav, lambda n: f"共有/{n % 37:02d} 課/{n // 370:04d}/資料 {n}.{('xlsx', 'jpg', 'pdf')[n % 3]}"
        )
        self._ordinary(b"settings", settings, lambda n: f"templates/{n % 7}/テンプレート_{n}.xml")
        for tree in (b"output", b"settings", b"webdav"):
            self._difficult(os.path.join(self._root, tree))
        # Last, because whatever is made in a directory changes its time.
        for path in sorted(self._directories):
            stamp = self._stamp()
            os.utime(path, ns=(stamp, stamp))

    def _output_name(self, n: int) -> str:
        folder = f"{DEFINITIONS[n % len(DEFINITIONS)]}/{2024 + n % 3}/{1 + n % 12:02d}/{n // 500:05d}"
        return f"{folder}/{n}_帳票.{'csv' if n % 2 else 'pdf'}"

    def _ordinary(self, tree: bytes, count: int, name: Callable[[int], str]) -> None:
        for n in range(count):
            path = os.path.join(self._root, tree, name(n).encode())
            self._directory(os.path.dirname(path))
            self._file(path, int(self._rng.expovariate(1 / 10_000)))

    def _stamp(self) -> int:
        return 1_500_000_000_000_000_000 + self._rng.randrange(10**17)

    def _own(self, path: bytes) -> None:
        if self._owner is not None:
            os.lchown(path, *self._owner)

    def _directory(self, path: bytes, mode: int = 0o750) -> None:
        missing = []
        while path not in self._directories and path != self._root and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for new in reversed(missing):
            os.mkdir(new)
            os.chmod(new, mode)
            self._own(new)
            self._directories.add(new)

    def _file(self, path: bytes, size: int, mode: int = 0o640, stamp: int | None = None) -> bytes:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            left = size
            while left > 0:
                start = self._rng.randrange(len(self._pool) - 1)
                left -= os.write(descriptor, self._pool[start : start + min(left, 1 << 16)])
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
            os.fchmod(descriptor, mode)
            stamp = self._stamp() if stamp is None else stamp
            os.utime(descriptor, ns=(stamp, stamp))
        finally:
            os.close(descriptor)
        self.figures["files"] += 1
        self.figures["file_bytes"] += size
        return path

    def _difficult(self, tree: bytes) -> None:
        base = os.path.join(tree, "むずかしい もの".encode())
        names, links, kinds = (os.path.join(base, part) for part in (b"names", b"links", b"kinds"))
        for path in (base, names, links, kinds):
            self._directory(path)
        self._names(names)
        self._links(links, tree)
        self._kinds(kinds)

    def _names(self, at: bytes) -> None:
        text = [
            unicodedata.normalize("NFC", "ガス点検 ポンプ.pdf"),
            unicodedata.normalize("NFD", "ガス点検 ポンプ.pdf"),  # the same to the eye
            " leading", "trailing ", "double  space", 'quote".csv', "apostrophe's.csv", "back\\slash", "new\nline.txt",
            "tab\there", "\r", "-rf", "--help", "~", "*", "?", "[a-z]", "{{ inventory_hostname }}",
            "%s%n%00", "$(touch pwned)",
            "`id`", "a;b", "a&b", "a|b", "#x",
            "!", "😀.png", "．", "...", "é", "É", "CON", "nul.txt", "a:b",
            "あ" * 85,  # 255 bytes
            "x" * 251 + ".txt",
        ]  # fmt: skip
        raw = ["日報.csv".encode("cp932"), b"\xff\xfe", b"caf\xe9", b"\x01\x7f", b"x\xc3"]
        for name in [*(entry.encode() for entry in text), *raw]:
            self._file(os.path.join(at, name), 100)
        self._directory(os.path.join(at, "空 フォルダー".encode()))
        self._directory(os.path.join(at, "日本".encode("cp932"), b"empty\n"))
        deep = at
        for n in range(40):
            deep = os.path.join(deep, f"深さ{n}".encode())
        self._directory(deep)
        self._file(os.path.join(deep, b"bottom"), 10)

    def _links(self, at: bytes, tree: bytes) -> None:
        self._directory(os.path.join(at, b"folder"))
        target = self._file(os.path.join(at, b"target"), 5000)
        for name, to in (
            (b"dangling", b"no such file"),
            (b"absolute", b"/etc/hostname"),
            (b"absolute within", target),
            (b"relative", b"target"),
            (b"upwards", b"../../../../../../etc/passwd"),
            (b"to a folder", b"folder"),
            (b"loop", b"loop"),
            ("リンク".encode(), "日報.csv".encode("cp932")),
            (b"newline", b"a\nb"),
        ):
            path = os.path.join(at, name)
            os.symlink(to, path)
            self._own(path)
            stamp = self._stamp()
            os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
        for name in (b"hard 1", b"folder/hard 2", "ハード".encode()):
            os.link(target, os.path.join(at, name))
        other = self._file(os.path.join(at, b"other"), 5000)  # a second group with the same size and owner
        os.link(other, os.path.join(tree, "むずかしい もの".encode(), b"kinds", b"hard to other"))

    def _kinds(self, at: bytes) -> None:
        self._file(os.path.join(at, b"empty"), 0)
        sparse = os.path.join(at, b"sparse")
        descriptor = os.open(sparse, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            os.ftruncate(descriptor, 64 << 20)
            os.pwrite(descriptor, b"island", 32 << 20)
        finally:
            os.close(descriptor)
        self._own(sparse)
        os.utime(sparse, ns=(10**18, 10**18))
        self.figures["files"] += 1
        for mode in (0o000, 0o111, 0o400, 0o444, 0o600, 0o666, 0o777, 0o4755, 0o2755, 0o6711):
            self._file(os.path.join(at, f"mode {mode:04o}".encode()), 50, mode)
        for mode in (0o1777, 0o2775, 0o700, 0o555):
            self._directory(os.path.join(at, f"folder mode {mode:04o}".encode()), mode)
        for name, stamp in (
            (b"time 1970", 1),
            (b"time 1985", 481_766_400_000_000_000),
            (b"time fraction", 1_700_000_000_123_456_789),
            (b"time 2100", 4_102_444_800_000_000_001),
        ):
            self._file(os.path.join(at, name), 10, stamp=stamp)
        # Times again after an owner changes: changing owners does not touch the time of content.
        for name, uid, gid in (
            (b"owner root", 0, 0),
            (b"owner without a name", NO_NAME, NO_NAME),
            (b"group without a name", 0, NO_NAME),
        ):
            path = self._file(os.path.join(at, name), 10)
            if os.geteuid() == 0:
                os.lchown(path, uid, gid)
        self._attributes(at)

    def _attributes(self, at: bytes) -> None:
        acl_file = self._file(os.path.join(at, b"acl"), 10)
        acl_folder = os.path.join(at, b"acl folder")
        self._directory(acl_folder)
        for arguments, path in (
            (["-m", f"u:nobody:r,g:{NO_NAME}:rw,u:{NO_NAME}:---"], acl_file),
            (["-m", "u:nobody:rx", "-m", "d:u:nobody:rwx,d:g::r"], acl_folder),
        ):
            done = subprocess.run(["setfacl", *arguments, "--", path], capture_output=True, check=False)
            if done.returncode != 0:
                self.unsupported.append(f"ACL: {done.stderr.decode(errors='replace').strip()}")
        for name, value in ((b"xattr", b"\x00\xff binary"), (b"xattr folder", "文字".encode())):
            path = os.path.join(at, name)
            if name.endswith(b"folder"):
                self._directory(path)
            else:
                self._file(path, 10)
            try:
                os.setxattr(path, "user.ireporter.note", value)
                os.setxattr(path, "user.empty", b"")
            except OSError as error:
                self.unsupported.append(f"user extended attributes: {error.strerror}")


def _make_trees(root: Path, seed: int, owner: tuple[int, int] | None, files: int) -> tuple[dict[str, int], list[str]]:
    trees = Trees(root, seed, owner)
    trees.make(files)
    return trees.figures, trees.unsupported


# Command line ---------------------------------------------------------------------------------------------------------
class _Standin:
    """The parts of the stand-in used here, imported from where it is installed."""

    def __init__(self, directory: Path) -> None:
        sys.path.insert(0, str(directory))
        from ireporter_standin import admin, passwords  # noqa: PLC0415
        from psycopg import sql  # noqa: PLC0415

        self.admin, self.passwords, self.sql = admin, passwords, sql


def _owner(name: str | None) -> tuple[int, int] | None:
    if name is None:
        return None
    import pwd  # noqa: PLC0415

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise GenerateError(f"There is no user {name} here") from None
    return entry.pw_uid, entry.pw_gid


def _load_database(arguments: argparse.Namespace, password: str) -> dict[str, int]:
    import psycopg  # noqa: PLC0415 - trees alone need no database

    standin = _Standin(arguments.standin)
    try:
        with psycopg.connect(arguments.database, client_encoding="UTF8") as connection:
            database = Database(connection, standin, arguments.seed, str(arguments.trees or "/srv/ireporter"))
            database.load(arguments.accounts, arguments.gigabytes, password)
            connection.commit()
            connection.autocommit = True
            connection.execute("ANALYZE")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            return database.figures | {"database_bytes": row[0] if row else 0}
    except psycopg.Error as error:
        raise GenerateError(f"the database refused: {str(error).strip()}") from error


def main() -> int:
    """Exit 0, or 1 with one sentence on stderr."""
    here = Path(__file__).resolve().parent / "standin"
    parser = argparse.ArgumentParser(description="Fills a stand-in tenant with data of any size from a seed.")
    parser.add_argument("--database", help="libpq connection string of a superuser, with dbname")
    parser.add_argument("--trees", type=Path, help="directory of output/, settings/ and webdav/")
    parser.add_argument("--accounts", type=int, default=120)
    parser.add_argument("--gigabytes", type=float, default=0.05, help="of the database (0.05 to 10 and more)")
    parser.add_argument("--files", type=int, default=2000, help="ordinary files; about 10 KB each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--owner", help="system user the files belong to (needs root)")
    parser.add_argument(
        "--password-file", type=Path, help="password of every account made; without it nobody can log in"
    )
    parser.add_argument(
        "--standin",
        type=Path,
        default=here if here.is_dir() else Path("/opt/ireporter-standin"),
        help="where the stand-in is",
    )
    arguments = parser.parse_args()
    if arguments.database is None and arguments.trees is None:
        parser.error("--database or --trees is needed")
    if arguments.accounts < 1 or arguments.files < 0 or arguments.gigabytes < 0:
        parser.error("sizes may not be negative, and one account is the least")
    started = time.monotonic()
    result: dict[str, object] = {}
    try:
        password = (
            arguments.password_file.read_text(encoding="utf-8").rstrip("\n")
            if arguments.password_file
            else os.urandom(16).hex()
        )
        with ProcessPoolExecutor(1) as pool:  # the trees are made while the database loads
            trees = None
            if arguments.trees is not None:
                trees = pool.submit(
                    _make_trees, arguments.trees, arguments.seed, _owner(arguments.owner), arguments.files
                )
            if arguments.database is not None:
                result |= _load_database(arguments, password)
            if trees is not None:
                figures, unsupported = trees.result()
                result |= figures | {"not_supported_here": unsupported}
    except (GenerateError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result | {"seconds": round(time.monotonic() - started, 1)}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
