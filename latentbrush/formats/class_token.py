"""config.json of a table of classes, a part that diffusers has no class for <-> our typed config."""

from __future__ import annotations

from typing import Any

from latentbrush.errors import UserError
from latentbrush.formats.fields import Fields
from latentbrush.nn import ClassTokenConfig

__all__ = ["read_class_token_config", "write_class_token_config"]

CLASS = "ClassToken"


def read_class_token_config(fields: Fields) -> ClassTokenConfig:
    """UserError names what is unknown or wrong."""
    fields.only("_class_name", CLASS)
    values: dict[str, Any] = {
        "classes": fields.whole("classes"),
        "width": fields.whole("width"),
        "empty": fields.flag("empty"),
    }
    fields.done()
    try:
        return ClassTokenConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_class_token_config(config: ClassTokenConfig) -> dict[str, Any]:
    return {"_class_name": CLASS, "classes": config.classes, "width": config.width, "empty": config.empty}
