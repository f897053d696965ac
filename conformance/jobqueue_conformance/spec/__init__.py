"""What the kit knows of the protocol and of an implementation: data in, verdicts out. It starts nothing."""
