"""The light client: holds genesis and a key, no log, and believes only what verifies (PROTOCOL section 6)."""
