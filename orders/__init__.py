"""Orders: from placement to the doorstep and back. The EventHandler (processing) decides; see docs/architecture.md."""
