"""The kinds of errors, and how a concrete one is written.

AccountingError
├── NotFound       what was asked for does not exist, or not for this actor
├── Invalid        the input breaks a rule that the sender can read off it alone
├── Conflict       the input is fine, the present state forbids it
├── PreconditionFailed  the sender has seen an older version than the present one
├── Mismatch       the same key was sent before with something else
├── Forbidden      this actor may not do this
├── Unauthorized   nobody knows who is asking
├── Unavailable    a server we depend on does not answer
└── Misconfigured  the installation itself is wrong; nothing starts

A concrete error is named after the broken rule, stands beside that rule, takes the facts and says
one sentence for a person. Its machine code is its class name in snake_case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class AccountingError(Exception):
    """A broken rule: one sentence for people, a stable code and the facts for programs."""

    # When the same request may succeed, where that is known.
    retry_after_seconds: int | None = None

    def __init__(self, sentence: str, **facts: object) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.facts: Mapping[str, object] = facts

    @property
    def code(self) -> str:
        """The class name in snake_case: `InvoiceNotDraft` is `invoice_not_draft`."""
        return _WORD_START.sub("_", type(self).__name__).lower()


class NotFound(AccountingError):
    """What was asked for does not exist, or not for this actor."""


class Invalid(AccountingError):
    """The input breaks a rule by itself; `errors` names each field and its rule."""

    def __init__(
        self, sentence: str, *, errors: Sequence[tuple[str, str]] = (), **facts: object
    ) -> None:
        super().__init__(sentence, **facts)
        self.errors = tuple(errors)


class Conflict(AccountingError):
    """The present state forbids what was asked."""


class PreconditionFailed(AccountingError):
    """The sender decided on an older version than the present one."""


class Mismatch(AccountingError):
    """What was sent is not what was sent before under the same key."""


class Forbidden(AccountingError):
    """This actor may not do this."""


class Unauthorized(AccountingError):
    """The request carries no identity that we accept."""


class Unavailable(AccountingError):
    """A server that this service depends on does not answer."""


class Misconfigured(AccountingError):
    """The installation is wrong: a setting, a server version, a missing program."""
