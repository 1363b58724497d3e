"""The pages of the mail catcher: self-contained HTML, no script, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from accounting.dev.mail_store import CaughtMail

REFRESH_SECONDS: Final = 5

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8883; --soft: #8889; --accent: #c2570c; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2.5rem 1.5rem; line-height: 1.5;
       font-family: system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; letter-spacing: -.01em; }
p { margin: .25rem 0 1.75rem; color: var(--soft); }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: .75rem; font-weight: 600; text-transform: uppercase;
     letter-spacing: .06em; color: var(--soft); }
th, td { padding: .65rem .75rem .65rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; font-variant-numeric: tabular-nums; }
tbody tr:hover { background: #8881; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.subject { font-weight: 600; }
.more { white-space: nowrap; font-size: .85rem; }
.empty { padding: 3rem; border: 1px dashed var(--line); border-radius: .75rem;
         text-align: center; }
"""


def list_page(mails: Sequence[CaughtMail]) -> str:
    """The list of caught mails; it reloads itself, so that a new mail appears."""
    content = _table(mails) if mails else '<p class="empty">No mail yet.</p>'
    many = "1 mail" if len(mails) == 1 else f"{len(mails)} mails"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>Caught mail ({len(mails)})</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Caught mail</h1>
<p>{many}, newest first. Nothing that is sent here leaves this machine.</p>
{content}
</body>
</html>
"""


def text_page(text: str) -> str:
    """A mail without an HTML body, as it was written."""
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Plain text mail</title></head>
<body><pre style="white-space: pre-wrap">{escape(text)}</pre></body>
</html>
"""


def _table(mails: Sequence[CaughtMail]) -> str:
    rows = "\n".join(_row(mail) for mail in mails)
    return f"""<table>
<thead><tr><th>Received (UTC)</th><th>To</th><th>Subject</th><th></th></tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


def _row(mail: CaughtMail) -> str:
    summary = mail.summary()
    address = f"/mails/{mail.id}"
    subject = escape(summary["subject"]) or "(no subject)"
    return (
        f"<tr><td>{mail.received_at:%Y-%m-%d %H:%M:%S}</td>"
        f"<td>{escape(summary['to'])}</td>"
        f'<td class="subject"><a href="{address}/html">{subject}</a></td>'
        f'<td class="more"><a href="{address}">details</a> · <a href="{address}/raw">raw</a>'
        "</td></tr>"
    )
