"""Train one run, or a sweep of runs.

    python -m ae_lab.train                                     one run
    python -m ae_lab.train -m model=mlp latent=2,5,10,32,64    a sweep

The same command again returns finished runs at once and resumes interrupted ones.
"""

from ae_lab.core import command


def run(config):
    from ae_lab.launching.task import run_job

    return run_job(config)


def main() -> None:
    from ae_lab.launching.plugins import register_plugins

    register_plugins()
    command.launch(run, "config")


if __name__ == "__main__":
    main()
