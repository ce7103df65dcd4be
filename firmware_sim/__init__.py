"""A device that can be cut off at any moment: media, bootloader, board, and sweeps that judge them from outside.

Nothing here imports `swarm`; of `swarm`, only the lab may import this package.
"""
