"""Make GitHub show what the runs are: a projection, repaired until it is right."""

from webhook_server.publish.assets import Blobs
from webhook_server.publish.parts import Parts
from webhook_server.publish.places import Places
from webhook_server.publish.publisher import Publisher
from webhook_server.publish.release_maker import ReleaseSources

__all__ = ["Blobs", "Parts", "Places", "Publisher", "ReleaseSources"]
