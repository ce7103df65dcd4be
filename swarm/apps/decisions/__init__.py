"""Decisions: ballots on the log become one outcome by a rule in integer arithmetic, with its margin in liars."""
