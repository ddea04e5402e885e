"""Best practice as rules: what is set up so that it will go wrong one day, why, and how to mend it."""
