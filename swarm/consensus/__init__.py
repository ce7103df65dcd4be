"""The pure core: one replica that absorbs inputs and asks every rule of PROTOCOL.md, one file per rule group."""
