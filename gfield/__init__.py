"""Gradient-field stores of depth data sets.

The public names load their modules when first used, so that ``import gfield`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfield.build import BuildReport, build_store
    from gfield.field import FieldParams, gradient_field
    from gfield.frame import BadFrame, Frame, InputError, Region, Source, UserError
    from gfield.manifest import StoreError
    from gfield.object_path import Location, location
    from gfield.sources.densedepth import open_densedepth
    from gfield.sources.images import open_images
    from gfield.sources.make3d import open_make3d
    from gfield.sources.nyu_raw import open_nyu_raw
    from gfield.sources.nyuv2 import open_nyuv2
    from gfield.spec import StoreSpec
    from gfield.specify import make_spec
    from gfield.staging import BuildError
    from gfield.store import Store, open_store
    from gfield.verify import verify_store

_HOMES = {
    "BadFrame": "frame",
    "BuildError": "staging",
    "BuildReport": "build",
    "FieldParams": "field",
    "Frame": "frame",
    "InputError": "frame",
    "Location": "object_path",
    "Region": "frame",
    "Source": "frame",
    "Store": "store",
    "StoreError": "manifest",
    "StoreSpec": "spec",
    "UserError": "frame",
    "build_store": "build",
    "gradient_field": "field",
    "location": "object_path",
    "make_spec": "specify",
    "open_densedepth": "sources.densedepth",
    "open_images": "sources.images",
    "open_make3d": "sources.make3d",
    "open_nyu_raw": "sources.nyu_raw",
    "open_nyuv2": "sources.nyuv2",
    "open_store": "store",
    "verify_store": "verify",
}
__all__ = [
    "BadFrame",
    "BuildError",
    "BuildReport",
    "FieldParams",
    "Frame",
    "InputError",
    "Location",
    "Region",
    "Source",
    "Store",
    "StoreError",
    "StoreSpec",
    "UserError",
    "__version__",
    "build_store",
    "gradient_field",
    "location",
    "make_spec",
    "open_densedepth",
    "open_images",
    "open_make3d",
    "open_nyu_raw",
    "open_nyuv2",
    "open_store",
    "verify_store",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("gfield")
    if name in _HOMES:
        return getattr(importlib.import_module(f"gfield.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gfield' has no attribute {name!r}")
