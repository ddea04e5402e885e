"""SCSI commands and their answers: build and parse, nothing else."""
