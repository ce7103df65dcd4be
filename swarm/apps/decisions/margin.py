"""Margin in liars: how many of the counted ballots may be lies before a decision can be turned (PROTOCOL section 5).

Definition. Take the m ballots that counted (abstentions do not count). A *change of k ballots* picks any k of them and
replaces each by any other ballot: another option, or any integer. The margin is the largest k such that

* options: no change of k ballots gives another outcome, `undecided` included;
* numbers: no change of k ballots moves the outcome outside [lowest, highest] of the m - k unchanged ballots.

So with k <= margin liars, whoever they are and whatever they say, the option is the one that truth would have chosen,
and the number lies between two honest ballots. With margin + 1 of them there is a choice of liars and lies that
breaks it. An undecided decision has no margin: there is nothing to turn.

A liar that abstains instead only takes its ballot away. That is weaker than a changed ballot for both rules, except
that too many abstentions leave `too few ballots`: silence can prevent a decision, it cannot turn one.

Integers are thought of as unbounded here. A ballot at the very end of the 63-bit range leaves a liar less room, so
the printed margin is then on the safe side.
"""

from __future__ import annotations

from swarm.primitives.errors import check


def majority_margin(winner: int, counted: int) -> int:
    """Return the margin of an option with `winner` of `counted` ballots, more than half, among at least two options.

    The strongest change takes ballots from the winner: after k of them it has winner - k, and it stays the outcome
    exactly while that is more than half, at least counted // 2 + 1. Changes of other ballots only help it or do nothing.
    """
    check(2 * winner > counted, "majority_margin needs a majority")
    return winner - (counted // 2 + 1)


def median_margin(counted: int) -> int:
    """Return the margin of the lower median of `counted` >= 1 ballots.

    It stands at index i = (m - 1) // 2 of the sorted ballots. With k liars all below, index k is the first honest
    ballot: i >= k is needed. With all above, m - k - 1 is the last: i <= m - k - 1, which is k <= m // 2 and follows.
    Liars on both sides are weaker than on one. So the margin is i: a strict minority, whatever the ballots are.
    """
    check(counted >= 1, "median_margin needs a ballot")
    return (counted - 1) // 2
