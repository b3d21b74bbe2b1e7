"""Make GitHub show what the runs are: a projection, repaired until it is right."""

from webhook_server.publish.assets import Blobs
from webhook_server.publish.publisher import Parts, Publisher

__all__ = ["Blobs", "Parts", "Publisher"]
