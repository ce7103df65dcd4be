"""Ed25519 key pairs from seeds that the caller brings: this floor makes no randomness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from nacl.bindings import crypto_sign_seed_keypair

from swarm.primitives.errors import ConfigError

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """The Ed25519 key pair of a 32-byte `seed` (RFC 8032 section 5.1.5).

    `public` (32 bytes) is what genesis lists. `secret` (64 bytes, seed and public key) is for `signing` alone.
    Neither the seed nor the secret appears in `repr`, `str` or an error. Raises `ConfigError` for a seed of
    another length: the key file is broken, the user must bring the right one.
    """

    seed: bytes
    public: bytes = field(init=False)
    secret: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive both halves once; the binding underneath reads exactly 32 bytes, so the length comes first."""
        if len(self.seed) != SEED_BYTES:
            raise ConfigError(f"a key seed has {SEED_BYTES} bytes, {len(self.seed)} given", where="key")
        public, secret = crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "public", public)
        object.__setattr__(self, "secret", secret)

    def __repr__(self) -> str:
        """Show the public half only: records of state end up in logs and tracebacks."""
        return f"KeyPair(public={self.public.hex()})"
