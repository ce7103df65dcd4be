"""Chunks of a release from any peer that has it: the asking side, the answering side, and nothing of the rollout."""
