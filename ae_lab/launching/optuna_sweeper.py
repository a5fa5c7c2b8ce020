"""stub to be replaced"""
from hydra.plugins.sweeper import Sweeper


class OptunaSweeper(Sweeper):
    def setup(self, *, hydra_context, task_function, config): ...
    def sweep(self, arguments): ...
