"""The study file: one TOML that says which grid of methods, networks, labels and seeds is to be run, and how.

Everything is checked when it is read: a key or a name that is wrong is told in one line with the nearest known one,
and so is a value that the command it belongs to would refuse.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any, Literal

from gfield import InputError, Location, location
from train.errors import TrainError
from train.labels import spelled_labels
from train.protocols import PROTOCOLS
from train.study import TABLES
from train.study.options import DECIDED, check_key, choices, option_keys, parse_options

# The starts that need no pre-training; all others are methods of `train pretrain`.
STARTS = ("random", "imagenet")
_TOP = ("name", "pretrain_seeds", "stores", "pretrain", "finetune", "network", "method", "grid")
_GRID = ("table", "methods", "networks", "labels", "seeds", "stores", "protocols")
_OPTIONAL: Mapping[str, list[Any]] = {"labels": ["100%"], "seeds": [0]}
# Far more than any study has. What is not refused beforehand takes minutes to parse or to print, or cannot be printed.
_MOST_BYTES, _MOST_DOTS, _MOST_DEPTH, _MOST_LETTERS, _MOST_ITEMS, _MOST_CELLS = 1 << 20, 200, 8, 4096, 10_000, 100_000
Chain = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Row:
    """A row of the tables: one way to start the encoder.

    Attributes
    ----------
    name, method
        What it is called, and one of `STARTS` or of `train pretrain`'s methods.
    on
        Names of the stores that it is pre-trained on: one after the other, each of them one store or several
        together. None is the store that a cell is fine-tuned on.
    options
        Of `train pretrain`, over those of the whole study.
    """

    name: str
    method: str
    on: Chain | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """All combinations of some rows, networks, labels, seeds and stores, and the table that they fill.

    Labels are in one spelling, such as ``"1%"`` or, for a number of frames, ``"80"``.
    """

    table: str
    methods: list[str]
    networks: list[str]
    labels: list[str]
    seeds: list[int]
    stores: list[str]
    protocols: list[str]


@dataclass(frozen=True)
class Study:
    """A study file, checked.

    Attributes
    ----------
    source
        What to call it in messages.
    name
        For people.
    stores
        Path by name; None for one that has not been given yet.
    pretrain, finetune
        Options of the commands, for all.
    networks
        Encoder and options of fine-tuning by network.
    rows, grids
        What is compared, and where.
    pretrain_seeds
        ``"one"``: an encoder is pre-trained once, with seed 0; ``"each"``: once for every seed.
    """

    source: str
    name: str
    stores: Mapping[str, Location | None]
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Row]
    grids: Sequence[Grid]
    pretrain_seeds: Literal["one", "each"] = "one"


def preset_names() -> list[str]:
    """The studies that come with this package."""
    return sorted(path.name.removesuffix(".toml") for path in _presets().iterdir() if path.name.endswith(".toml"))


def read_preset(name: str, stores: Mapping[str, Location]) -> Study:
    """One of the studies that come with this package; see `read_study`.

    Raises
    ------
    TrainError
        As `read_study`, or if there is no preset of this name.
    """
    check_key("--preset", name, preset_names())
    return parse_study(f"preset {name}", (_presets() / f"{name}.toml").read_bytes(), Path(), stores)


def read_study(path: Path, stores: Mapping[str, Location]) -> Study:
    """Read a study file.

    Parameters
    ----------
    path
        The file; paths in it are relative to its folder.
    stores
        Paths of stores by name, which win over the file's.

    Raises
    ------
    TrainError
        If it cannot be read, or something in it is wrong: names the file, the place, what was seen and wanted.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror or error}, wanted a study file") from error
    return parse_study(str(path), text, path.parent, stores)


def parse_study(source: str, text: bytes, folder: Path, stores: Mapping[str, Location]) -> Study:
    """A study from the bytes of its file; see `read_study`. ``folder`` is where its relative paths begin."""
    content = _content(source, text)
    for key in content:
        check_key(source, key, _TOP)
    name, seeds = content.get("name", Path(source).stem), content.get("pretrain_seeds", "one")
    if not isinstance(name, str) or not name.strip():
        raise TrainError(f"{source}: name is {name!r}, wanted a text")
    if seeds not in ("one", "each"):
        raise TrainError(f'{source}: pretrain_seeds is {seeds!r}, wanted "one" or "each"')
    places = _stores(source, _table(source, content, "stores"), folder, stores)
    pretrain = _options(f"{source}: [pretrain]", _table(source, content, "pretrain"), "pretrain", folder)
    finetune = _options(f"{source}: [finetune]", _table(source, content, "finetune"), "finetune", folder)
    networks = {
        name: _network(source, name, settings, folder) for name, settings in _tables(source, content, "network").items()
    }
    rows = {
        name: _row(source, name, settings, folder, list(places))
        for name, settings in _tables(source, content, "method").items()
    }
    for method in (*STARTS, *choices("pretrain", "method")):
        rows.setdefault(method, Row(method, method))
    # A method under another name is that method: its options are those of the method's own row, and its own over them.
    rows = {name: replace(row, options={**rows[row.method].options, **row.options}) for name, row in rows.items()}
    grids = content.get("grid", [])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        raise TrainError(f"{source}: no [[grid]], wanted at least one")
    parsed = [_grid(f"{source}: [[grid]] {n}", grid, list(rows), list(places)) for n, grid in enumerate(grids, 1)]
    return Study(source, name, places, pretrain, finetune, networks, rows, parsed, seeds)


def _content(source: str, text: bytes) -> dict[str, Any]:
    """The file's values, none of them too large or too deep to be told of."""
    if len(text) > _MOST_BYTES:
        raise TrainError(f"{source}: over {_MOST_BYTES} bytes, wanted a study file")
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(b".") > _MOST_DOTS:  # the parser takes the square of a key's parts
            raise TrainError(f"{source}: line {number} has {line.count(b'.')} dots, wanted at most {_MOST_DOTS}")
    try:
        content = tomllib.loads(text.decode("utf-8-sig"))  # as some editors save it
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{source}: not TOML: {error}") from error
    todo: list[tuple[str, Any, int]] = [("", content, 0)]
    while todo:
        key, value, depth = todo.pop()
        if depth > _MOST_DEPTH:
            raise TrainError(f"{source}: tables or lists {depth} deep, wanted at most {_MOST_DEPTH}")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise TrainError(
                f"{source}: {key} is a number of {value.bit_length()} bits, wanted at most 64, as TOML has"
            )
        if max(len(key), len(value) if isinstance(value, str) else 0) > _MOST_LETTERS:
            raise TrainError(f"{source}: {key:.40} is a text of over {_MOST_LETTERS} letters, wanted a shorter one")
        if isinstance(value, dict | list):
            if len(value) > _MOST_ITEMS:
                raise TrainError(f"{source}: {key} has {len(value)} entries, wanted at most {_MOST_ITEMS}")
            items = value.items() if isinstance(value, dict) else ((key, item) for item in value)
            todo += [(name, item, depth + 1) for name, item in items]
    return content


def _stores(
    source: str, table: Mapping[str, Any], folder: Path, given: Mapping[str, Location]
) -> dict[str, Location | None]:
    for name in given:
        check_key(f"--store {name}={given[name]}: [stores] of {source}", name, list(table))
    for name, path in table.items():
        _check_name(f"{source}: [stores]", name)
        if not isinstance(path, str) or "\0" in path:
            raise TrainError(f'{source}: [stores]: {name} is {path!r}, wanted a path, or "" where --store gives it')
    try:
        places = {name: location(path) if path else None for name, path in table.items()}
    except InputError as error:
        raise TrainError(f"{source}: [stores]: {error}") from error
    # A URL is whole already.
    whole = {name: folder / place if isinstance(place, Path) else place for name, place in places.items()}
    return {name: given.get(name) or place for name, place in whole.items()}


def _options(where: str, table: Mapping[str, Any], command: str, folder: Path) -> dict[str, Any]:
    """Options as they will be parsed, paths made whole; parsed once here, so that mistakes are found."""
    for key, value in table.items():
        if key in DECIDED[command]:
            raise TrainError(f"{where}: {key!r} is not for here, the study decides it")
        check_key(where, key, option_keys(command))
        if "\0" in str(value):
            raise TrainError(f"{where}: {key} is {value!r}, wanted a value without NUL")
    whole = {key: _whole(key, value, folder) for key, value in table.items()}
    parse_options(command, whole, where)
    return whole


def _whole(key: str, value: Any, folder: Path) -> Any:
    names_file = key == "weights" or (key == "init" and value not in STARTS)
    return str(folder / value) if names_file and isinstance(value, str) else value


def _network(source: str, name: str, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    check_key(f"{source}: [network]", name, choices("finetune", "network"))
    where = f"{source}: [network.{name}]"
    for key in settings:
        check_key(where, key, ["encoder", *option_keys("finetune")])
    options = {key: value for key, value in settings.items() if key != "encoder"}
    if "encoder" not in settings:
        return _options(where, options, "finetune", folder)
    check_key(f"{where}: encoder", settings["encoder"], choices("finetune", "encoder"))
    return {"encoder": settings["encoder"], **_options(where, options, "finetune", folder)}


def _row(source: str, name: str, settings: Mapping[str, Any], folder: Path, stores: Sequence[str]) -> Row:
    methods = [*STARTS, *choices("pretrain", "method")]
    where = f"{source}: [method.{name}]" if name.isidentifier() or "-" in name else f'{source}: [method."{name}"]'
    _check_name(f"{source}: [method]", name)
    method = settings.get("method", name)
    if "method" not in settings and name not in methods:
        raise TrainError(f'{where}: no method, wanted for example method = "gradient-moco"')
    check_key(f"{where}: method", method, methods)
    for key in settings:
        check_key(where, key, ["method", "on", *option_keys("pretrain")])
    options = {key: value for key, value in settings.items() if key not in ("method", "on")}
    if method in STARTS and (options or "on" in settings):
        raise TrainError(f"{where}: {next(iter({**options, 'on': 0}))!r} is for pre-training, {method} has none")
    return Row(name, method, _chain(where, settings.get("on"), stores), _options(where, options, "pretrain", folder))


def _check_name(where: str, name: str) -> None:
    """Refuse names that a table cannot show."""
    if not name.strip() or not name.isprintable():
        raise TrainError(f"{where}: a name is {name!r}, wanted one that can be read")


def _chain(where: str, on: Any, stores: Sequence[str]) -> Chain | None:
    if on is None:
        return None
    links = [link if isinstance(link, list) else [link] for link in on] if isinstance(on, list) else []
    if not links or not all(link and all(isinstance(name, str) for name in link) for link in links):
        raise TrainError(f'{where}: on is {on!r}, wanted names of stores, such as ["nyu"] or ["nyu", "make3d"]')
    for name in (name for link in links for name in link):
        check_key(f"{where}: on", name, stores)
    for link in links:
        if len(set(link)) < len(link):
            raise TrainError(f"{where}: on has {link!r} together, wanted each store once")
    return tuple(tuple(link) for link in links)


def _grid(where: str, grid: Mapping[str, Any], rows: Sequence[str], stores: Sequence[str]) -> Grid:
    for key in grid:
        check_key(where, key, _GRID)
    for key in _GRID:
        if key not in grid and key not in _OPTIONAL:
            raise TrainError(f"{where}: no {key}, wanted all of {', '.join(k for k in _GRID if k not in _OPTIONAL)}")
    lists = {key: grid.get(key, _OPTIONAL.get(key)) for key in _GRID if key != "table"}
    for key, values in lists.items():
        if not isinstance(values, list) or not values:
            raise TrainError(f"{where}: {key} is {values!r}, wanted a list of one or more")
    check_key(f"{where}: table", grid["table"], TABLES)
    known = {"methods": rows, "networks": choices("finetune", "network"), "stores": stores, "protocols": [*PROTOCOLS]}
    for key, names in known.items():
        for name in lists[key]:
            check_key(f"{where}: {key}", name, names)
    for seed in lists["seeds"]:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise TrainError(f"{where}: seeds has {seed!r}, wanted whole numbers from 0 on")
    labels = [spelled_labels(f"{where}: labels", label) for label in lists["labels"]]
    if "1" in labels and any(label.endswith("%") for label in labels):
        raise TrainError(f'{where}: labels has 1, one frame, beside shares, wanted "100%" or 1.0 for all frames')
    lists["labels"] = labels
    _check_lists(where, lists)
    return Grid(grid["table"], **lists)


def _check_lists(where: str, lists: Mapping[str, list[Any]]) -> None:
    for key, values in lists.items():
        twice = [value for value, times in Counter(values).items() if times > 1]
        if twice:
            raise TrainError(f"{where}: {key} has {twice[0]!r} twice, wanted each once")
    if (cells := prod(map(len, lists.values()))) > _MOST_CELLS:
        raise TrainError(f"{where}: {cells} cells, wanted at most {_MOST_CELLS}")


def _table(source: str, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise TrainError(f"{source}: {key} is {table!r}, wanted a table [{key}]")
    return table


def _tables(source: str, content: Mapping[str, Any], key: str) -> Mapping[str, Mapping[str, Any]]:
    tables = _table(source, content, key)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise TrainError(f"{source}: [{key}]: {name} is {table!r}, wanted a table [{key}.{name}]")
    return tables


def _presets() -> Any:
    return resources.files("train.study") / "presets"
