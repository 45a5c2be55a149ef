"""The status page: one document that contains its style and script, and its policy."""

import base64
import hashlib
import html
import json
from importlib import resources

from zc.zrs.status.states import MEANINGS


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_STYLE = _resource("page.css")
_SCRIPT = _resource("page.js")
_STATES = {state: [meant.mark, meant.severity] for state, meant in MEANINGS.items()}

PAGE = (
    _resource("page.html")
    .replace("{{style}}", _STYLE, 1)
    .replace("{{states}}", html.escape(json.dumps(_STATES, ensure_ascii=False)), 1)
    .replace("{{script}}", _SCRIPT, 1)
    .encode()
)
"""The document."""

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_source(_STYLE)}",
        f"script-src {_source(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Allows only the code in the document, and requests to this server."""
