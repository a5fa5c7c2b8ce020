"""Where and when the jobs of a sweep run.

`task` is a job in whichever process; `local` is the launcher that starts a process for each, of
which `process` is one, `fork_server` starts it within a second, `resources` hands out cores and
GPUs, and `table` shows how they are; `sweep_check` looks at jobs before the first trains;
`optuna_sweeper` chooses them one by one; `plugins` makes ours known to Hydra. Nothing here imports
torch before a job needs it.
"""
