"""What heads every paper, in words: who sends it, to whom, and in which characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from accounting.printing.company import Company
from accounting.wording import one_line

# Chinese and Japanese share code points for characters that they draw differently; only Japanese
# also writes kana.
_KANA: Final = re.compile("[\u3041-\u30ff]")


def words_of_letterhead(company: Company, customer: Iterable[str | None]) -> dict[str, object]:
    """The words that `paper.typ` places: the company, the customer's lines, the font of both.

    Lines of the customer that say nothing are left out.
    """
    lines = [line for line in (one_line(text or "") for text in customer) if line]
    is_japanese = any(map(_KANA.search, [*lines, company.name, *company.address]))
    return {
        "company": _words_of_company(company),
        "customer": lines,
        "cjk_font": f"Noto Sans CJK {'JP' if is_japanese else 'SC'}",
    }


def _words_of_company(company: Company) -> dict[str, object]:
    tax_id = [f"Tax ID {company.tax_id}"] if company.tax_id else []
    email = [company.email] if company.email else []
    lines = [*company.address, *tax_id, *email]
    return {"name": company.name, "logo": company.logo, "lines": lines}
