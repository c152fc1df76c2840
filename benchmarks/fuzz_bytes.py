"""Mutations of files as bytes, as text with columns, and as JSON."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

INTEGERS = (0, 1, -1, 2, 7, 127, 255, 32767, 65535, 2**24, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**62, -(2**63))
WORDS = (
    *("nan", "inf", "-inf", "-1", "0", "1.5", "1e400", "1e300", "-0.0", "9" * 30, "9" * 5000, "2147483648", "1_000"),
    *(
        "",
        " ",
        "x",
        "None",
        "True",
        "\x00",
        "\u00e9",
        "\u0661\u0662",
        "\u00b2",
        '"',
        "'",
        "0x10",
        "a,b",
        "a\tb",
        "../x",
    ),
    *("x" * 200_000, "\ufeff", "12/15", "1/", "?", "-alt", "a(b)", "#"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**70, 10**400, "", "x", "\x00"),
    *("\ud800", "../../x", [], {}, [[]], [1, 2], [1] * 40, {"a": 1}, "9" * 5000, ["x"], [None], [-1, -1, -1]),
    *([10**6] * 3, [10**12] * 3, [0, 0, 0], [2**62] * 3, "int64", "<f8", "|O", "float16", "1", [1.5] * 3),
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")

Edit = Callable[[bytes, random.Random], bytes]


def place(data: bytes, rng: random.Random, longest: int = 64) -> tuple[int, int]:
    """Start and length of a run of bytes, half of them in the first 128."""
    start = rng.randrange(min(len(data), 128) if rng.random() < 0.5 else len(data))
    return start, rng.randint(1, min(longest, len(data) - start))


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[place(data, rng)[0]] ^= 1 << rng.randrange(8)
    return bytes(changed)


def random_run(data: bytes, rng: random.Random) -> bytes:
    """Replace a run by random bytes, or by one byte repeated."""
    start, count = place(data, rng)
    new = rng.randbytes(count) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 32))]) * count
    return data[:start] + new + data[start + count :]


def write_integer(data: bytes, rng: random.Random) -> bytes:
    """Write a number of one to eight bytes, as a size in a header may be."""
    size, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
    number = rng.choice(INTEGERS) % 2 ** (8 * size)
    start = place(data, rng)[0]
    new = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], number)
    return (data[:start] + new + data[start + size :])[: len(data)]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Leave the end out."""
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    """Add bytes at the end."""
    return data + rng.choice((bytes(1), bytes(4096), rng.randbytes(100), data))


def cut(data: bytes, rng: random.Random) -> bytes:
    """Leave a run out."""
    start, count = place(data, rng, 1024)
    return data[:start] + data[start + count :]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Exchange two halves of a region, or insert the second one twice."""
    start, count = place(data, rng, 2048)
    first, second = data[start : start + count // 2], data[start + count // 2 : start + count]
    return data[:start] + second + rng.choice((first, second)) + data[start + count :]


def replace_number(data: bytes, rng: random.Random) -> bytes:
    """Replace a number in a text by a word that may be none."""
    found = list(NUMBER.finditer(data))
    if not found:
        return flip_bits(data, rng)
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(WORDS).encode(errors="surrogatepass") + data[match.end() :]


def edit_field(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or double a field of a line with columns."""
    lines = data.split(b"\n")
    row = rng.randrange(len(lines))
    delimiter = max((b",", b"\t", b";", b" "), key=lines[0].count)
    fields = lines[row].split(delimiter)
    column = rng.randrange(len(fields))
    action = rng.randrange(4)
    if action == 0:
        del fields[column]
    elif action == 1:
        fields.insert(column, fields[column])
    else:
        fields[column] = rng.choice(WORDS).encode()
    return b"\n".join([*lines[:row], delimiter.join(fields), *lines[row + 1 :]])


def edit_lines(data: bytes, rng: random.Random) -> bytes:
    """Remove, double or exchange lines."""
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.randrange(3)
    if action == 0:
        del lines[first]
    elif action == 1:
        lines.insert(second, lines[first])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def encode_otherwise(data: bytes, rng: random.Random) -> bytes:
    """Write a text with other line ends, delimiters, or in another encoding."""
    text = data.decode("latin-1")
    action = rng.randrange(5)
    if action == 0:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp037")))
    if action == 1:
        return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\x00", b"")))
    if action == 2:
        return data.replace(rng.choice((b",", b"\t", b" ")), rng.choice((b",", b"\t", b";", b"\x00", b" ")))
    if action == 3:
        return b'"' + data
    return data.replace(b"e", "\u00e9".encode("latin-1"))


BINARY: Sequence[Edit] = (flip_bits, random_run, write_integer, write_integer, truncate, extend, cut, swap)
TEXT: Sequence[Edit] = (replace_number, edit_field, edit_field, edit_lines, encode_otherwise)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change a file whose format is not looked at; one in two hundred becomes empty."""
    if not data or rng.random() < 0.005:
        return b"" if data else rng.randbytes(16)
    return rng.choice(BINARY)(data, rng)


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Change a text with columns, sometimes as bytes."""
    return mutate_bytes(data, rng) if not data or rng.random() < 0.2 else rng.choice(TEXT)(data, rng)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Replace, remove or rename something within a JSON value, or put a value of another kind in its place."""
    inside = isinstance(value, dict | list) and value and rng.random() < 0.85
    if not inside:
        return rng.choice(VALUES)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    action = rng.random()
    if action < 0.15:
        del value[key]
    elif action < 0.25 and isinstance(value, dict):
        value[rng.choice((f"{key}x", "", "path", "\x00"))] = value.pop(key)
    elif action < 0.25:
        value.insert(key, value[key])
    else:
        value[key] = mutate_value(value[key], rng)
    return value


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Change a JSON text, or each so often a line of such; sometimes as bytes, or nest it too deep."""
    if rng.random() < 0.02:
        return b"[" * 100_000 + b"]" * 100_000
    if not data or rng.random() < 0.15:
        return mutate_text(data, rng)
    try:
        return json.dumps(mutate_value(json.loads(data), rng)).encode()
    except RecursionError:
        return mutate_bytes(data, rng)
    except ValueError:  # lines of JSON, or not any more JSON
        lines = data.splitlines() or [b""]
        row = rng.randrange(len(lines))
        lines[row] = mutate_json(lines[row], rng) if len(lines) > 1 else mutate_text(lines[row], rng)
        return b"\n".join(lines)
