"""The sequence of a removal: identity, guards, plan, steps, claims, runner, journal."""
