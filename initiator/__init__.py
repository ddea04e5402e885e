"""What is true: the model, the host's own state, and the embedded iSCSI engine."""
