"""Damage to valid files, by chance and as malice would do it: bits, lengths, blocks, and values of JSON and TOML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Numbers at which something overflows, changes its sign, or is taken for "none".
_EDGES = [edge + step for edge in (0, *(1 << bits for bits in (7, 8, 15, 16, 24, 31, 32, 40, 63, 64))) for step in
          (-1, 0, 1)]  # fmt: skip
_DEEP = 100_000
# Values as they stand in the text, since no value of Python's has all of them.
JSON_VALUES = (
    "0", "-1", "1", "2", "1e999", "-1e999", "NaN", "Infinity", "1e-400", "9" * 400, "9" * 5000, "-0.0", "0.5",
    "9223372036854775807", "1000000000000", "4294967296", "true", "null", '""', '"\\u0000"', '"\\ud800"',
    '"\\u001b[31mred"', '"a\\nb"', '"../../../../outside"', '"/etc/passwd"', '"."', '"' + "x" * 100_000 + '"', "[]",
    "{}", "[[]]", "[1]", '{"":0}', "[" * _DEEP + "]" * _DEEP, '{"a":' * 2000 + "0" + "}" * 2000,
    "[" + "0," * 50_000 + "0]",
)  # fmt: skip
TOML_VALUES = (
    "0", "-1", "1", "0.0", "1e999", "inf", "-inf", "nan", "true", "''", '"\\u0000"', '"\\u001B[31mred"', '"a\\nb"',
    "9" * 400, "9" * 5000, "0x" + "F" * 20_000, "9223372036854775808", "1979-05-27T07:32:00Z", "07:32:00", "[]", "{}",
    "[[]]", "{a = {b = 1}}", "[" * 500 + "]" * 500, "[" * _DEEP + "]" * _DEEP, '"' + "x" * 200_000 + '"',
    "[" + "0," * 50_000 + "0]", "[" + ",".join(map(str, range(50_000))) + "]", '"/etc/passwd"', '"../../x"',
    '["rooms", "rooms"]', '["0%", "100.5%", "1e-300%"]', "[1e-300]",
)  # fmt: skip


def mutated(
    data: bytes,
    rng: np.random.Generator,
    *,
    others: Sequence[bytes] = (),
    hot: Sequence[tuple[int, int]] = (),
    words: Sequence[bytes] = (),
) -> bytes:
    """A file with one to four mutations.

    Parameters
    ----------
    data
        A valid file.
    rng
        Where chance comes from.
    others
        Other valid files, which parts are taken from.
    hot
        Ranges of bytes that hold more meaning than others: four of five mutations happen there.
    words
        Texts of the format, which are put in anywhere.
    """
    buffer = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 4]))):
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        change(buffer, _place(buffer, rng, hot), rng, others or [data], words or _WORDS)
    return bytes(buffer)


def _place(buffer: bytearray, rng: np.random.Generator, hot: Sequence[tuple[int, int]]) -> int:
    if hot and rng.random() < 0.8:
        start, stop = hot[int(rng.integers(len(hot)))]
        if start < min(stop, len(buffer)):
            return int(rng.integers(start, min(stop, len(buffer))))
    return int(rng.integers(max(1, len(buffer))))


Change = Callable[[bytearray, int, np.random.Generator, Sequence[bytes], Sequence[bytes]], None]
_WORDS = (b"\0", b"\xff\xff\xff\xff", b"../", b"%n%s", b"\x1b[31m", b"\n")


def _flip(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    if buffer:
        buffer[at] ^= 1 << int(rng.integers(8))


def _byte(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    buffer[at : at + 1] = bytes([int(rng.integers(256))])


def _number(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    """A number at an edge in the place of one, of any width and order."""
    width, order = int(rng.choice([1, 2, 4, 8])), ("little", "big")[int(rng.integers(2))]
    value = _EDGES[int(rng.integers(len(_EDGES)))] % (1 << 8 * width)
    buffer[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


def _count(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    """A number that may be a length, a little larger or smaller, or many times as large."""
    width, order = int(rng.choice([1, 2, 4, 8])), ("little", "big")[int(rng.integers(2))]
    seen = int.from_bytes(buffer[at : at + width], order)  # type: ignore[arg-type]
    value = seen + int(rng.integers(-9, 10)) if rng.random() < 0.6 else seen << int(rng.integers(1, 12))
    buffer[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]


def _cut(buffer: bytearray, at: int, *_: object) -> None:
    del buffer[at:]


def _drop(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    del buffer[at : at + _length(rng)]


def _repeat(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    block = bytes(buffer[at : at + _length(rng)])
    buffer[at:at] = block * int(rng.integers(1, 4))


def _copy(buffer: bytearray, at: int, rng: np.random.Generator, *_: object) -> None:
    """A block over another place; the length stays."""
    to, length = int(rng.integers(max(1, len(buffer)))), _length(rng)
    block = bytes(buffer[at : at + length])[: len(buffer) - to]
    buffer[to : to + len(block)] = block


def _splice(buffer: bytearray, at: int, rng: np.random.Generator, others: Sequence[bytes], _: object) -> None:
    other = others[int(rng.integers(len(others)))]
    buffer[at:] = other[int(rng.integers(max(1, len(other)))) :] if rng.random() < 0.5 else other[at:]


def _word(buffer: bytearray, at: int, rng: np.random.Generator, _: object, words: Sequence[bytes]) -> None:
    word = words[int(rng.integers(len(words)))]
    buffer[at : at + (len(word) if rng.random() < 0.5 else 0)] = word


def _length(rng: np.random.Generator) -> int:
    return int(2 ** rng.uniform(0, 10))


_CHANGES: tuple[Change, ...] = (_flip, _flip, _byte, _number, _number, _count, _cut, _drop, _repeat, _copy, _splice,
                                _word)  # fmt: skip


def mutated_json(value: Any, rng: np.random.Generator) -> bytes:
    """JSON with one to three values replaced, left out, renamed or copied from elsewhere in it."""
    value = json.loads(json.dumps(value))
    raw: dict[str, str] = {}
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        places = [*_places(value)]
        if not places:
            break
        parent, key = places[int(rng.integers(len(places)))]
        what = rng.random()
        if what < 0.6:
            token = f"@raw{len(raw)}@"
            raw[token] = JSON_VALUES[int(rng.integers(len(JSON_VALUES)))]
            parent[key] = token
        elif what < 0.75:
            del parent[key]
        elif what < 0.9 or not isinstance(parent, dict):
            other, other_key = places[int(rng.integers(len(places)))]
            parent[key] = json.loads(json.dumps(other[other_key]))
        else:
            parent[_NAMES[int(rng.integers(len(_NAMES)))]] = parent.pop(key)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for token, written in raw.items():
        text = text.replace(f'"{token}"', written)
    return text.encode("utf-8", "surrogatepass")


_NAMES = ("", "x", "../outside", "/etc/passwd", "a\x1b[31m", "a\nb", "a" * 5000, "rgb/../../outside", "c/0", ".", "\0")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside another one, as the outer one and the key or place in it."""
    todo = [value]
    while todo:
        outer = todo.pop()
        keys = list(outer) if isinstance(outer, dict) else range(len(outer))
        for key in keys:
            yield outer, key
            if isinstance(outer[key], dict | list):
                todo.append(outer[key])


def mutated_toml(text: str, rng: np.random.Generator) -> bytes:
    """A TOML file with one to three of its values replaced, or its lines left out, repeated or renamed."""
    lines = text.splitlines()
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        at = int(rng.integers(len(lines)))
        key, equals, _value = lines[at].partition("=")
        what = rng.random()
        if what < 0.65 and equals:
            lines[at] = f"{key}= {TOML_VALUES[int(rng.integers(len(TOML_VALUES)))]}"
        elif what < 0.75:
            del lines[at]
        elif what < 0.85:
            lines.insert(int(rng.integers(len(lines))), lines[at])
        else:
            new = _KEYS[int(rng.integers(len(_KEYS)))]
            lines[at] = f"{new} ={_value}" if equals else lines[at].replace("grid", "x").replace("method", new)
        if not lines:
            break
    return "\n".join(lines).encode()


_KEYS = ("x", '"\\u001B[31m"', '""', '"a\\nb"', "a" * 20_000, ".".join("a" * 3000), "stores", "lr", "methods", "on")
