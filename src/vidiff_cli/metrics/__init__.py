"""How far made frames are from true ones. Numbers from uint8 frames; no network, no file."""
