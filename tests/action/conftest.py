from tests.action.world import cache_dir, offline_base, world
from tests.docker_fixture import docker_engine
from tests.registry_fixture import registry

__all__ = ["cache_dir", "docker_engine", "offline_base", "registry", "world"]
