"""The asyncio shell around the protocol, and the engine's own processes."""
