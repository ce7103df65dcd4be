"""The device process on asyncio, and the light client on which the Python API and the commands stand."""
