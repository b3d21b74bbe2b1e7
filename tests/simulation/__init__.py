"""The real server in virtual time: replicas, database, cloud, agents in one thread, by a seed."""
