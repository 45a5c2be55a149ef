"""The data of nodes: properties, encoded as a JSON object.

Data that are not a JSON object become one property, ``string_value``. The name of a symbolic
link ends with `LINK`, the name of a property link with `PROPERTY_LINK`.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from zc.zk.errors import MalformedProperties

LINK = " ->"
PROPERTY_LINK = " =>"
STRING_VALUE = "string_value"


def encode(properties: Mapping[str, Any]) -> bytes:
    """Return properties as data; raise `TypeError` or `ValueError` if JSON lacks a value."""
    if not properties:
        return b""
    value = properties.get(STRING_VALUE)
    if len(properties) == 1 and isinstance(value, str) and value.strip()[:1] not in {"", "{"}:
        return value.encode()
    text = json.dumps(dict(properties), separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode()


def decode(data: bytes | None, path: str) -> dict[str, Any]:
    """Return the properties of the node at `path`; raise `MalformedProperties`."""
    try:
        text = (data or b"").decode()
        if not text.strip():
            return {}
        if not text.lstrip().startswith("{"):
            return {STRING_VALUE: text}
        properties: dict[str, Any] = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise MalformedProperties(f"malformed properties of {path}: {error}") from None
    return properties


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
