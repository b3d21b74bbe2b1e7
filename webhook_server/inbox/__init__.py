"""Turn what GitHub delivered into runs, or into changes of runs."""

from webhook_server.inbox.inbox import Inbox
from webhook_server.inbox.parts import InboxParts
from webhook_server.inbox.redelivery import Redelivery

__all__ = ["Inbox", "InboxParts", "Redelivery"]
