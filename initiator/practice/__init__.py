"""An embedded iSCSI target with switchable faults, for practice and for tests."""
