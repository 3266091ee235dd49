"""What drives a run: cycles of recover, poll, ingest and submit, the handle and the runner."""
