"""What is in a store, as facts for scripts and as text for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gfield.console import print_facts, print_table, readable_bytes
from gfield.listing import screenful
from gfield.store import Store

_LISTS_ALL = ", which --json lists"


def store_facts(store: Store) -> dict[str, Any]:
    """The facts that `gfield info --json` prints; sizes in bytes."""
    sizes = Counter[str]()
    for path, entry in store.manifest.files.items():
        sizes[path.split("/c/")[0]] += entry.size if "/c/" in path else 0
    return {
        "path": str(store.path),
        "title": store.attributes["title"],
        "format": store.attributes["gfield_format"],
        "frames": len(store),
        "splits": dict(Counter(store.splits.tolist())),
        "scenes": len(set(store.scenes.tolist()) - {""}),
        "codec": store.spec.codec,
        "operator": dict(store.spec.operator),
        "valid_region": store.spec.valid_region._asdict() if store.spec.valid_region else None,
        "arrays": {
            key: {
                "shape": [len(store), *array.frame_shape],
                "dtype": array.dtype,
                "bytes": sizes[key],
                "fingerprint": array.fingerprint,
            }
            for key, array in store.arrays.items()
        },
        "frames_per_shard": store.spec.frames_per_shard,
        "shards": store.spec.shards,
        "source_files": store.attributes["source_files"],
        "left_out": store.attributes["left_out"],
        "excluded": store.attributes["excluded"],
        "software": store.attributes["software"],
        "root": store.manifest.root,
    }


def print_info(store: Store) -> None:
    """Print the facts as text."""
    facts = store_facts(store)
    arrays = facts["arrays"].items()
    rows = [
        [key, " x ".join(map(str, one["shape"])), one["dtype"], readable_bytes(one["bytes"]), one["fingerprint"][:12]]
        for key, one in arrays
    ]
    print_table(f"{store.path}: {facts['title']}", ["array", "shape", "type", "stored", "fingerprint"], rows)
    print_facts(_lines(facts))


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    splits = ", ".join(f"{count} {split}" for split, count in sorted(facts["splits"].items()))
    region = facts["valid_region"]
    where = f"rows {region['top']}:{region['bottom']}, columns {region['left']}:{region['right']}" if region else "all"
    made_of = [f"{entry['name']} ({readable_bytes(entry['size'])})" for entry in facts["source_files"]]
    left_out = [f"{entry['name']}: {entry['reason']}" for entry in facts["left_out"]]
    excluded = [f"frame {entry['frame']} ({entry['name']}): {entry['reason']}" for entry in facts["excluded"]]
    more = f" and {len(made_of) - 2} more" if len(made_of) > 2 else ""
    return [
        ("frames", f"{facts['frames']}: {splits}; {facts['scenes']} scenes"),
        ("files", f"{facts['shards']} shards of {facts['frames_per_shard']} frames an array, codec {facts['codec']}"),
        ("field", ", ".join(f"{name} {value}" for name, value in facts["operator"].items() if value is not False)),
        ("region", where),
        ("made of", ", ".join(made_of[:2]) + more),
        *(("left out", line) for line in screenful(left_out, _LISTS_ALL)),
        *(("excluded", line) for line in screenful(excluded, _LISTS_ALL)),
        ("root hash", facts["root"]),
    ]
