"""The real server in virtual time: replicas, database, cloud and agents in one thread, by a seed."""
