"""Pages as HTML that needs nothing else: no scripts, no files, one style of its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_STYLE: Final = (files("accounting.pages") / "templates" / "style.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# Nothing may be loaded or run but this very style and pictures that the page has in itself; forms
# go back to us; nobody shows the page inside of his own.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_TEMPLATES: Final = Environment(
    loader=PackageLoader("accounting.pages", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["style"] = Markup(_STYLE)  # as it is: its hash is in the policy


def render_page(template: str, words: Mapping[str, Any]) -> str:
    """A page of this package; every word in it is text, whatever a name or a reason contains."""
    return _TEMPLATES.get_template(f"{template}.html").render(words)
