"""docs/format.md against the code and against a store: names, types, codecs, fills, limits."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import gfield
from gfield import attributes, manifest, spec, text_column
from gfield.codec import CODEC_NAMES, codec_for
from gfield.hierarchy import hierarchy_files

from .documents import ROOT

PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")


def table(heading: str, number: int = 0) -> list[list[str]]:
    """Rows of the n-th table below a heading, without its head; code marks are taken off."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, heading
    tables = re.findall(r"(?:^\|.*\n)+", section[1], re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in tables[number].splitlines()]
    return [[cell.replace("`", "") for cell in row] for row in rows[2:]]


@pytest.fixture(scope="module")
def full(source):
    """A store with all arrays, of two frames."""
    return gfield.make_spec(source, optional=["raw_depth", "label"])


def metadata(built, path):
    return json.loads((built / path / "zarr.json").read_bytes())


def test_arrays(full):
    rows = table("Arrays")
    assert [row[0] for row in rows] == list(spec.ARRAY_NAMES)
    specs = {array.name: array for array in full.array_specs().values()}
    for name, dtype, dims, fill, unit, _ in rows:
        assert spec._DTYPES[name] == dtype
        assert float(fill) == spec._FILLS[name] or (fill == "NaN" and np.isnan(spec._FILLS[name]))
        assert spec._ATTRIBUTES[name]["units"] == unit
        if name != "depth_native":
            assert ", ".join(specs[name].dims) == dims


def test_the_rule_of_the_nearest_cell():
    from gfield.levels import nearest_index

    assert "((2i + 1) * m - 1) // (2n)" in PAGE
    for m, n in ((6, 3), (305, 640), (55, 240), (7, 5)):
        assert nearest_index(m, n).tolist() == [((2 * i + 1) * m - 1) // (2 * n) for i in range(n)]


def test_codecs():
    rows = table("Shards and chunks")
    assert [row[0] for row in rows] == list(CODEC_NAMES)
    for name, others, gradient in rows:
        for arrays, told in ((("rgb", "depth", "label"), others), (("gradient",), gradient)):
            for array in arrays:
                chain = codec_for(array, name, np.dtype(spec._DTYPES[array]).itemsize).metadata()
                assert [codec["name"] for codec in chain][-1] == "crc32c"
                blosc = [codec["configuration"] for codec in chain if codec["name"] == "blosc"]
                said = [f"blosc {one['cname']}, level {one['clevel']}, {one['shuffle']}" for one in blosc]
                assert (said or ["as it is"]) == [told]
    assert [codec["name"] for codec in text_column.text_codecs()] == ["vlen-utf8", "zstd"]
    assert text_column.text_codecs()[1]["configuration"] == {"level": 3, "checksum": True}


def test_attributes_of_the_root_group(built):
    names = [row[0] for row in table("Attributes of the root group")]
    assert sorted(names) == sorted(metadata(built, ".")["attributes"])


def test_fields_of_the_spec(built):
    told = [name for row in table("Attributes of the root group", 1) for name in row[0].split(", ")]
    stored = metadata(built, ".")["attributes"]["spec"]
    assert sorted(told) == sorted(stored)
    assert sorted(re.findall(r"\w+", table("Attributes of the root group", 1)[7][1].split(":")[0])) == sorted(
        stored["operator"]
    )


def test_attributes_of_arrays_and_levels(built):
    gradient = metadata(built, "640x480/gradient")["attributes"]
    assert sorted(gradient) == ["fingerprint", "long_name", "operator", "rule", "units", "valid_region"]
    assert sorted(metadata(built, "640x480/depth")["attributes"]) == [
        "comment", "fingerprint", "long_name", "rule", "units"
    ]  # fmt: skip
    assert sorted(metadata(built, "640x480")["attributes"]) == ["height", "valid_region", "width"]
    for name in ("long_name", "units", "rule", "fingerprint", "comment", "operator", "valid_region"):
        assert f"`{name}`" in PAGE


def test_the_manifest(built):
    stored = json.loads((built / manifest.MANIFEST_PATH).read_bytes())["attributes"]
    assert sorted(row[0] for row in table("The manifest")) == sorted(stored)
    assert stored["gfield_manifest"] == spec.FORMAT_VERSION
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert files == {*stored["files"], manifest.MANIFEST_PATH}


def test_what_a_fingerprint_follows_from(full, monkeypatch):
    seen = []
    monkeypatch.setattr(spec, "digest", lambda value: seen.append(value) or "")
    full.array_specs()
    gradient = next(value for value in seen if value["name"] == "gradient")
    text = PAGE.split("## Fingerprints")[1].split("## ")[0]
    assert {*gradient} <= {*re.findall(r"`(\w+)`", text)}
    depth = next(value for value in seen if value["name"] == "depth")
    assert {*gradient} - {*depth} == {"size_WH", "operator", "valid_region"}


def test_limits():
    text = PAGE.split("## Limits")[1]
    for number, name in (
        (attributes.MOST_FRAMES, "frames"),
        (manifest.MOST_FILES - 100, "shards"),
        (attributes.MOST_SIDE, "pixels a side"),
        (manifest._PATH_LETTERS, "letters a"),
    ):
        assert f"{number:,} {name}" in text, (number, name)
    assert text_column.MOST_BYTES == 512 << 20


def test_no_text_at_all_is_no_chunk(full):
    files = hierarchy_files(full, {}, {"name": ["a"] * full.frames, "scene": [""] * full.frames})
    assert "name/c/0" in files
    assert "scene/c/0" not in files


def test_the_version_and_who_refuses_it(built, tmp_path):
    """What the table of changes says of readers: unknown attributes are passed over, unknown names are refused."""
    assert PAGE.startswith(f"# The format of a store, version {spec.FORMAT_VERSION}\n")
    whole = manifest.read_manifest(built)

    def opened(**changed):
        store = tmp_path / "nyu.zarr"
        (store / "manifest").mkdir(parents=True, exist_ok=True)
        found = manifest.Manifest({**whole.attributes, **changed}, whole.files)
        (store / manifest.MANIFEST_PATH).write_bytes(found.to_bytes())
        return gfield.open_store(store)

    stored = whole.attributes["spec"]
    assert len(opened(licence="of tomorrow", title="Another")) == 10
    assert len(opened(spec={**stored, "kind": "another"})) == 10
    with pytest.raises(gfield.StoreError, match="format 2, this version of gfield reads format 1"):
        opened(gfield_format=2)
    for wrong in ({"codec": "better"}, {"arrays": [*stored["arrays"], "normal"]}, {"new_field": 1}):
        with pytest.raises(gfield.StoreError, match="is of no store that can be"):
            opened(spec={**stored, **wrong})
