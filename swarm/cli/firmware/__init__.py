"""`swarm firmware`: pack and sign releases, propose them to a swarm, watch, stop and take back their rollout."""
