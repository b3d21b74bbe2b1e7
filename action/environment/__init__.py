"""Have the environment that a run image stands on: found by its key, or made once for all."""
