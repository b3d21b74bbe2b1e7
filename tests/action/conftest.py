"""The engine, the registry and the base image that the Action's own tests share."""

from tests.action.engine_fixture import docker_engine
from tests.action.world import cache_dir, offline_base, world
from tests.docker_fixture import engine_socket, image
from tests.registry_fixture import registry

__all__ = [
    "cache_dir",
    "docker_engine",
    "engine_socket",
    "image",
    "offline_base",
    "registry",
    "world",
]
