"""What travels and what is signed: statements, messages, genesis and proofs, each with one canonical encoding."""
