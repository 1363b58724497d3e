"""A customer who wants no reminders, as stored (spec section 6, "Unsubscribed")."""

from __future__ import annotations

from accounting.db.document import BaseDocument, Indexes
from accounting.db.fields import Email, Instant
from accounting.ids import ObjectId


class MailOptout(BaseDocument):
    """There while reminders to a customer are stopped; `_id` is the customer's.

    `notificationId` is the e-mail whose link was used, and `sentTo` the address it went to.
    """

    notification_id: ObjectId
    sent_to: Email
    created_at: Instant

    class Settings:
        name = "mail_optouts"
        indexes: Indexes = []
