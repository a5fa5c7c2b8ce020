"""What runs and sweeps leave behind, and finding it again.

`identity` says which run is the same run; `run` knows a run's folder, and `run_files` reads what
others may have written there; `registry` finds, selects and tabulates runs; `sweeps` holds sweeps
together; `saved_results` keeps numbers without runs; `quantities` and `labels` say what numbers and
settings are called. Nothing here imports torch.
"""
