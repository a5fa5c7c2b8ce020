"""What runs and sweeps leave behind, and finding it again.

`identity` says which run is the same run; `run` knows a run's folder, and `run_files` reads what
others may have written there; `environment` is what a run was made with; `lock` lets one process
in. `registry` finds, selects and tabulates runs, `finished` finds finished ones by `facts`;
`sweeps` holds sweeps together, `sweep_callback` checks and closes one, `study` keeps a search.
`saved_results` keeps numbers without runs, `run_like` is what they share with runs; `quantities`
and `labels` say what numbers and settings are called. Nothing here imports torch.
"""
