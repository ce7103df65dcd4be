#!/usr/bin/env python3
"""Twenty lines that put a note on a swarm's log, let its devices decide, and check the proof. See README, "From Python".

Usage: python docs/examples/twenty_lines.py SWARM/operator/operator.yaml
"""

import asyncio
import sys

import swarm


async def main(operator: str) -> None:
    async with swarm.connect(operator) as s:
        receipt = await s.submit(b"hello")
        print("entry", receipt.position, "of the log is ours")

        decided = await s.decide("temperature", rule="median", scale=2, deadline="5s")
        print(swarm.verify_proof(decided.proof, s.genesis).in_words())


asyncio.run(main(sys.argv[1]))
